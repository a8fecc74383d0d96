import { expect } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { grpcTransport, hubClients } from '../../src/grpc/index.ts';
import { collect, testCommand } from '../../src/testing/index.ts';

/** For the hub that they are connected to: nobody is cut off because the machine is busy for a few seconds. */
export const livenessMs = 60_000;

/** A device, its caller and its watcher, who do nothing wrong while others do. */
export interface HealthyPeers extends AsyncDisposable {
  /** The device answers a command, and the watcher is told of it and of what the device says; nobody was ever cut off. */
  beat(): Promise<void>;
}

export interface HealthyPeersOptions {
  readonly address: string;
  /** Credentials, where the hub asks for some. */
  readonly deviceToken?: string | undefined;
  readonly callerToken?: string | undefined;
  readonly clientId?: string | undefined;
}

/** Connects them, and waits until all three are there. */
export async function healthyPeers(options: HealthyPeersOptions): Promise<HealthyPeers> {
  const { address, deviceToken, callerToken, clientId = 'healthy' } = options;
  const cuts: string[] = [];
  const device = await connectDevice({
    address,
    clientId,
    token: deviceToken,
    observe: (fact) => {
      if (fact.kind === 'stream-ended') cuts.push(fact.reason);
    },
  });
  const codec = { type: 'test.Do', encode: () => new Uint8Array(), decode: () => 0 };
  device.handle(codec, async () => undefined);
  const transport = grpcTransport({ address, token: callerToken });
  const watching = hubClients({ address, token: callerToken });
  const leave = new AbortController();
  const seen: string[] = [];
  let wake = (): void => undefined;
  let hasOpened = (): void => undefined;
  const open = new Promise<void>((resolve) => {
    hasOpened = resolve;
  });
  const watch = (async () => {
    const request = { channels: [`client.${clientId}`] };
    const signals = { signal: leave.signal, onHeader: () => hasOpened() };
    for await (const { event } of watching.events.watchEvents(request, signals)) {
      if (event !== undefined) seen.push(event.type);
      wake();
    }
  })().then(
    () => 'ended',
    (error: unknown) => String(error),
  );
  await open;
  let beats = 0;
  return {
    async beat() {
      beats++;
      const updates = await collect(transport.send(testCommand({ clientId })));
      expect(updates.map(({ state }) => state).at(-1)).toBe('succeeded');
      await device.emit('beat', { beats });
      const has = (type: string): number => seen.filter((each) => each === type).length;
      while (has('beat') < beats || has('command.succeeded') < beats)
        expect(await Promise.race([watch, new Promise<void>((resolve) => (wake = resolve))])).toBeUndefined();
      expect([has('beat'), has('command.succeeded'), cuts]).toEqual([beats, beats, []]);
    },
    async [Symbol.asyncDispose]() {
      leave.abort();
      await watch;
      await watching.close();
      await transport.close();
      await device.close({ timeoutMs: 0 });
    },
  };
}
