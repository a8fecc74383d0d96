import { expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { faultProxy } from '../../src/testing/index.ts';
import { dice, eventually, size, sleep } from './support/sizes.ts';
import { SseWatcher } from './support/sse-watcher.ts';
import { World } from './support/world.ts';
import { WsWatcher } from './support/ws-watcher.ts';

test('watchers over SSE and WebSocket that are cut again and again, also by the death of the hub, see every event once and in order (P18)', {
  timeout: size(240_000, 900_000),
}, async () => {
  const { random, between } = dice();
  const world = await World.open();
  const { hub } = world;
  const road = await faultProxy({ target: () => hub.http, random });
  onTestFinished(() => road.close());
  const [events, count, kills] = [20_000, 100, size(3, 30)];
  const watchers = Array.from({ length: count }, (_, i) =>
    i % 2 === 0
      ? new SseWatcher(() => `http://${road.address}/v1/events?channel=client.source`)
      : new WsWatcher(() => `http://${road.address}/v1/ws?channel=client.source`),
  );
  onTestFinished(() => {
    for (const watcher of watchers) watcher.close();
  });
  await eventually('all watch', () => watchers.every(({ opened }) => opened > 0));
  await sleep(500); // each has got its first id, from which it can come back

  const device = await connectDevice({ address: hub.grpc, clientId: 'source', backoff: { minMs: 20, maxMs: 200 } });
  onTestFinished(() => device.close({ timeoutMs: 0 }));
  let told = 0;
  const slowest = (): number => Math.min(...watchers.map(({ ticks }) => ticks));
  const emitting = (async () => {
    const open = new Set<Promise<void>>();
    for (let n = 0; n < events; n++) {
      const one = device.emit('tick', { n, pad: 'z'.repeat(between(0, 300)) }).then(() => void open.delete(one));
      open.add(one);
      while (open.size >= 50) await Promise.race(open);
      told = n + 1;
      // The hub keeps 10,000 events of a channel: nobody falls so far behind that it would be told of a gap.
      while (n % 500 === 0 && told - slowest() > 5000) await sleep(20);
    }
    await Promise.all(open);
  })();
  let isCalm = false;
  const cutting = (async () => {
    while (!isCalm) {
      await sleep(between(50, 400));
      road.setFaults(random() < 0.5 ? {} : { down: { cutAfterBytes: [200, 20_000], sliceBytes: 700 } });
      road.cutSome(0.3);
    }
  })();
  for (let kill = 1; kill <= kills; kill++) {
    await eventually(
      () => `${told} of ${events} events are told`,
      () => told >= (events * kill) / (kills + 1),
    );
    await hub.child.kill();
    await hub.start();
  }
  await emitting;
  isCalm = true;
  await cutting;
  road.setFaults({});
  road.cutAll();
  const ticks = (watcher: SseWatcher | WsWatcher): number[] => watcher.seen.filter((one) => typeof one === 'number');
  await eventually('all have seen the last one', () => slowest() >= events).catch(
    () => undefined, // what is missing is told below
  );
  const source = Array.from({ length: events }, (_, n) => n);
  for (const watcher of watchers) {
    const got = ticks(watcher);
    const at = source.findIndex((n) => got[n] !== n);
    const notices = watcher.seen.filter((one) => typeof one === 'string').slice(0, 5);
    expect({
      length: got.length,
      at,
      around: got.slice(Math.max(0, at - 2), at + 3),
      notices: at < 0 ? [] : notices,
    }).toEqual({
      length: events,
      at: -1,
      around: got.slice(0, 2),
      notices: [],
    });
  }
  expect(road.counts.cut, 'there were cuts').toBeGreaterThan(count);
});
