import { expect, test } from 'vitest';
import { StreamingCommandClient } from '../../src/commands/index.ts';
import type { Device } from '../../src/device/index.ts';
import { HubError } from '../../src/errors.ts';
import type { CommandCodec } from '../../src/protocol/codec.ts';
import { isTerminalUpdate } from '../../src/protocol/command.ts';
import { fakeTransport, type SimulatedWorld, simulate, testCommand } from '../../src/testing/index.ts';

const text: CommandCodec<string> = {
  type: 'test.Text',
  encode: (value) => new TextEncoder().encode(value),
  decode: (bytes) => new TextDecoder().decode(bytes),
};

/** A world in which everything breaks, and callers who keep a ledger of what devices did. */
async function stormy(seed: number) {
  const effects = new Map<string, number>();
  const ends = new Map<string, string>();
  const order = new Map<string, string[]>();
  const submitted = new Map<string, string[]>();
  let world: SimulatedWorld | undefined;
  const boot = (device: Device, clientId: string): void => {
    device.handle(
      text,
      async (_, { commandId, signal }) => {
        effects.set(commandId, (effects.get(commandId) ?? 0) + 1);
        order.set(clientId, [...(order.get(clientId) ?? []), commandId]);
        await world?.sleep(10);
        if (signal.aborted) throw new Error('stopped');
        return commandId;
      },
      { result: text },
    );
  };
  const simulation = await simulate({
    seed,
    boot,
    cutEveryMs: 400,
    restartDeviceEveryMs: 1500,
    killHubEveryMs: 2000,
    hub: { window: 4, resultWaitMs: 20_000 },
    run: async (running) => {
      world = running;
      const all: Promise<void>[] = [];
      for (let i = 0; i < 60; i++) {
        const clientId = `device-${i % 3}`;
        const command = testCommand({
          clientId,
          whenOffline: 'queue',
          timeoutMs: 0,
          ttlMs: 600_000,
          orderingKey: 'one',
          payload: { type: text.type, value: text.encode(`${i}`) },
        });
        submitted.set(clientId, [...(submitted.get(clientId) ?? []), command.id]);
        all.push(
          (async () => {
            for await (const update of running.transport.send(command))
              if (isTerminalUpdate(update)) {
                expect(ends.has(command.id), 'one end').toBe(false);
                ends.set(command.id, update.state);
              }
          })(),
        );
        await running.sleep(100 * running.random());
      }
      await running.sleep(5000);
      running.calm();
      await Promise.all(all);
    },
  });
  return { simulation, effects, ends, order, submitted };
}

test.each(Array.from({ length: 30 }, (_, i) => i + 1))(
  'storm %i: every queued command ends once, none runs twice, the order holds',
  async (seed) => {
    const { effects, ends, order, submitted } = await stormy(seed);
    expect(ends.size).toBe(60);
    for (const [id, state] of ends) {
      expect(effects.get(id) ?? 0, `${id} ${state}`).toBeLessThanOrEqual(1);
      if (state === 'succeeded') expect(effects.get(id)).toBe(1);
      else expect(state, 'interrupted by a restart of its device').toBe('unknown');
    }
    for (const [clientId, ids] of order) {
      const positions = ids.map((id) => submitted.get(clientId)!.indexOf(id));
      expect(positions).toEqual([...positions].sort((a, b) => a - b));
    }
  },
);

test('the same seed gives the same trace, another one another', async () => {
  const [one, again, other] = [await stormy(7), await stormy(7), await stormy(8)];
  expect(one.simulation.trace).toEqual(again.simulation.trace);
  expect(one.simulation.trace).not.toEqual(other.simulation.trace);
  expect(one.simulation.trace.some((line) => line.includes('the hub is killed'))).toBe(true);
});

test('what fails names its seed and the end of its trace; what never ends is said', async () => {
  const boot = (): void => undefined;
  const broken = simulate({ seed: 3, boot, run: () => Promise.reject(new Error('wrong sum')) });
  await expect(broken).rejects.toThrow(/seed 3 failed: Error: wrong sum/);
  const endless = simulate({ seed: 4, boot, run: () => new Promise(() => undefined), maxSimulatedMs: 1000 });
  await expect(endless).rejects.toThrow('the simulation with seed 4 did not end in 1000 ms');
});

test('a live command whose hub is killed ends with what its caller can know', async () => {
  await simulate({
    seed: 5,
    boot: (device) => device.handle(text, () => new Promise(() => undefined)),
    run: async ({ transport, sleep, killHub }) => {
      const client = new StreamingCommandClient({ clientId: 'device-1', codec: text, transport });
      const outcome = client.request('x', { waitForConnectMs: 1000 }).catch((error: unknown) => error);
      await sleep(500);
      killHub();
      expect(await outcome).toMatchObject({ code: 'outcome-unknown' });
    },
  });
});

test('a fake transport answers callers as the test says, and tells what they did', async () => {
  const transport = fakeTransport((sent) => {
    const value = text.decode(sent.command.payload.value);
    sent.tell('queued', 'sent', 'delivered');
    if (value === 'break') sent.fail(new HubError('unavailable', 'no road'));
    else if (value === 'refuse') sent.end('rejected', { code: 'too-hot' });
    else sent.progress({ fraction: 0.5 }).succeed({ type: text.type, value: text.encode(value.toUpperCase()) });
  });
  const client = new StreamingCommandClient({ clientId: 'pump-7', codec: text, result: text, transport });
  expect(await client.request('abc')).toBe('ABC');
  await expect(client.request('refuse')).rejects.toMatchObject({ code: 'command-rejected', deviceCode: 'too-hot' });
  await expect(client.request('break')).rejects.toMatchObject({ code: 'outcome-unknown' });
  expect(transport.sent.map(({ command }) => command.clientId)).toEqual(['pump-7', 'pump-7', 'pump-7']);
});
