import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CommandRegistry } from '../../src/hub/command-registry.ts';
import { PendingCommand } from '../../src/hub/pending-command.ts';
import { testCommand } from '../../src/testing/index.ts';

const pendingOf = (bytes: number, idempotencyKey?: string): PendingCommand => {
  const command = testCommand({ payload: { type: 't', value: new Uint8Array(bytes) }, idempotencyKey });
  return new PendingCommand(command, { acceptedAtMs: 1, monotonic: 0 }, () => undefined);
};

test('the newest ended commands are remembered within both limits, those on their way always', () => {
  const step = fc.record({ bytes: fc.nat(3000), hasKey: fc.boolean(), ends: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 0, max: 8 }), (steps, maxEnded) => {
      const maxEndedBytes = 10_000;
      const registry = new CommandRegistry({ maxEnded, maxEndedBytes });
      const open: PendingCommand[] = [];
      const ended: PendingCommand[] = [];
      for (const [i, { bytes, hasKey, ends }] of steps.entries()) {
        const pending = pendingOf(bytes, hasKey ? `k${i}` : undefined);
        registry.add(pending);
        (ends ? ended : open).push(pending);
        if (ends) registry.ended(pending);
      }
      const weight = (pending: PendingCommand): number => 1024 + pending.command.payload.value.length;
      const kept: PendingCommand[] = [];
      for (const pending of ended.toReversed()) {
        if (kept.length === maxEnded || [...kept, pending].reduce((sum, each) => sum + weight(each), 0) > maxEndedBytes)
          break;
        kept.push(pending);
      }
      expect(new Set(registry)).toEqual(new Set([...open, ...kept]));
      for (const pending of [...open, ...ended]) {
        const { idempotencyKey, tenant, clientId } = pending.command;
        if (idempotencyKey === undefined) continue;
        const isKnown = open.includes(pending) || kept.includes(pending);
        expect(registry.withKey(tenant, clientId, idempotencyKey)).toBe(isKnown ? pending : undefined);
      }
    }),
  );
});
