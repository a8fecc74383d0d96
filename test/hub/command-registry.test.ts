import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CommandRegistry } from '../../src/hub/command-registry.ts';
import { PendingCommand } from '../../src/hub/pending-command.ts';
import { testCommand } from '../../src/testing/index.ts';

const pendingOf = (bytes: number, idempotencyKey?: string): PendingCommand => {
  const command = testCommand({ payload: { type: 't', value: new Uint8Array(bytes) }, idempotencyKey });
  return new PendingCommand(command, { acceptedAtMs: 1, monotonic: 0 }, () => undefined);
};

test('at least half of what the limits allow of the newest ended commands is remembered, never more than all, and those on their way always', () => {
  const step = fc.record({ bytes: fc.nat(3000), hasKey: fc.boolean(), ends: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 0, max: 8 }), (steps, maxEnded) => {
      const maxEndedBytes = 20_000;
      const registry = new CommandRegistry({ maxEnded, maxEndedBytes });
      const open: PendingCommand[] = [];
      const ended: PendingCommand[] = [];
      for (const [i, { bytes, hasKey, ends }] of steps.entries()) {
        const pending = pendingOf(bytes, hasKey ? `k${i}` : undefined);
        registry.add(pending);
        (ends ? ended : open).push(pending);
        if (ends) registry.ended(pending);
      }
      const weight = (some: readonly PendingCommand[]): number =>
        some.reduce((sum, pending) => sum + 1024 + pending.command.payload.value.length, 0);
      const kept = ended.filter((pending) => registry.get(pending.id) === pending);
      // The newest, without holes, within the limits...
      expect(kept).toEqual(ended.slice(ended.length - kept.length));
      expect(kept.length).toBeLessThanOrEqual(maxEnded);
      expect(weight(kept)).toBeLessThanOrEqual(maxEndedBytes);
      // ...and one generation at least: the next older one and the newest of it are over half of a limit.
      if (maxEnded >= 2 && kept.length < ended.length) {
        const half = kept.length + 1 > maxEnded / 2 || weight(ended.slice(-kept.length - 1)) > maxEndedBytes / 2;
        expect(half).toBe(true);
      }
      expect(new Set(registry)).toEqual(new Set([...open, ...kept]));
      expect(registry.size).toBe(open.length + kept.length);
      for (const pending of [...open, ...ended]) {
        const { idempotencyKey, tenant, clientId } = pending.command;
        if (idempotencyKey === undefined) continue;
        const isKnown = open.includes(pending) || kept.includes(pending);
        expect(registry.withKey(tenant, clientId, idempotencyKey)).toBe(isKnown ? pending : undefined);
      }
    }),
  );
});
