import type { BetterSseVerbs } from './actors/better-sse.ts';
import type { HubVerbs } from './actors/hub.ts';
import type { SocketIoVerbs } from './actors/socket-io.ts';
import type { WatchersVerbs } from './actors/watchers.ts';
import { type Actor, type AnyActor, type Bench, beside, type Contender, during, takeTurns } from './harness.ts';
import type { Load } from './load.ts';

const perSecond = 100;

/**
 * A thousand watchers (500 if quick) of one channel with 100 events a second: 100,000 deliveries a second. Beside it better-sse and
 * socket.io, broadcasting the same. Then 20 readers that never read, with larger events.
 */
export async function sse(bench: Bench): Promise<void> {
  await fanOut(bench);
  await stalledReaders(bench);
}

async function fanOut(bench: Bench): Promise<void> {
  const watchers = bench.isQuick ? 500 : 1000;
  const bytes = 100;
  const contenders: Record<string, Contender> = {};
  const add = async (
    name: string,
    server: AnyActor,
    stream: { address: string; path?: string },
    publish: (seconds: number) => Promise<unknown>,
  ): Promise<void> => {
    const readers = await bench.start<WatchersVerbs>('watchers');
    await readers.call('open', { ...stream, count: watchers });
    contenders[name] = async (seconds) => {
      await readers.call('begin');
      const begun = performance.now();
      const { result, cpuUs } = await during({ server, readers }, async () => {
        await publish(seconds);
        return settled(name, readers, seconds * perSecond * watchers);
      });
      return {
        perSecond: result.operations / result.seconds,
        p50Ms: result.p50Ms,
        p99Ms: result.p99Ms,
        server: cpuUs.server! / result.operations,
        cores: cpuUs.server! / 1000 / (performance.now() - begun),
      };
    };
  };

  const hub = await bench.start<HubVerbs>('hub');
  const { http } = await hub.call('open', {});
  await add('signalbox', hub, { address: http, path: '/v1/events?channel=bench' }, (seconds) =>
    hub.call('publish', { channel: 'bench', perSecond, seconds, bytes }),
  );
  if (bench.hasPeers) {
    const betterSse = await bench.start<BetterSseVerbs>('better-sse');
    await add('better-sse', betterSse, { address: await betterSse.call('serve'), path: '/' }, (seconds) =>
      betterSse.call('broadcast', { perSecond, seconds, bytes }),
    );
    const socketIo = await bench.start<SocketIoVerbs>('socket-io');
    await add('socket.io', socketIo, { address: await socketIo.call('serve') }, (seconds) =>
      socketIo.call('broadcast', { perSecond, seconds, bytes }),
    );
  }

  const { signalbox, ...yardsticks } = await takeTurns(
    contenders,
    bench.isQuick ? { rounds: 2, seconds: 1, warmUpSeconds: 1 } : { rounds: 5, seconds: 3 },
  );
  const report = (metric: string, unit: string, number: string): void =>
    bench.report(`${metric}, ${watchers} watchers`, unit, signalbox![number]!, beside(yardsticks, number));
  report('deliveries per second', '1/s', 'perSecond');
  report('server CPU per delivery', 'us', 'server');
  report('server cores in use', '', 'cores');
  report('p50 from event to watcher', 'ms', 'p50Ms');
  report('p99 from event to watcher', 'ms', 'p99Ms');
  await bench.stopAll();
}

/** Waits until everything was delivered, at most 10 s, and gives what the readers saw. */
export async function settled(name: string, readers: Actor<WatchersVerbs>, expected: number): Promise<Load> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const load = await readers.call('end');
    if (load.operations >= expected) return load;
    if (performance.now() > deadline)
      throw new Error(`${name}: ${load.operations} of ${expected} events were delivered`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Events of 32 KiB, so that the kernel's own buffers for each reader are full in the first seconds. */
async function stalledReaders(bench: Bench): Promise<void> {
  const seconds = bench.isQuick ? 2 : 3;
  const load = { perSecond, bytes: 32 * 1024, seconds };
  const contenders: Record<string, { server: AnyActor; publish: () => Promise<unknown> }> = {};
  const add = async (
    name: string,
    server: AnyActor,
    stream: { address: string; path?: string },
    publish: () => Promise<unknown>,
  ) => {
    const readers = await bench.start<WatchersVerbs>('watchers');
    await readers.call('open', { ...stream, count: 20, stalled: true });
    contenders[name] = { server, publish };
  };
  const hub = await bench.start<HubVerbs>('hub');
  const { http } = await hub.call('open', {});
  await add('signalbox', hub, { address: http, path: '/v1/events?channel=bench' }, () =>
    hub.call('publish', { channel: 'bench', ...load }),
  );
  if (bench.hasPeers) {
    const betterSse = await bench.start<BetterSseVerbs>('better-sse');
    await add('better-sse', betterSse, { address: await betterSse.call('serve'), path: '/' }, () =>
      betterSse.call('broadcast', load),
    );
  }
  const growth: Record<string, number> = {};
  for (const [name, { server, publish }] of Object.entries(contenders)) {
    await publish();
    const before = await server.own('settledUsage');
    await publish();
    const after = await server.own('settledUsage');
    growth[name] = (after.rssBytes - before.rssBytes) / 2 ** 20;
  }
  const { signalbox, ...yardsticks } = growth;
  bench.report(`resident memory gained in ${seconds} s more, 20 readers stalled`, 'MiB', signalbox!, yardsticks);
}
