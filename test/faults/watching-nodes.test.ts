import { afterEach, expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { type FaultProxy, faultProxy } from '../../src/testing/index.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer } from '../support/redis.ts';
import { killAll } from './support/child.ts';
import { HubProcess } from './support/hub.ts';
import { dice, eventually, size, sleep } from './support/sizes.ts';
import { SseWatcher } from './support/sse-watcher.ts';
import { WsWatcher } from './support/ws-watcher.ts';

afterEach(killAll);

describeNeeding('redis', 'watching at several nodes', () => {
  test('watchers over SSE and WebSocket that are cut, and come back at another node, see every event once and in order, over kills of nodes (P18)', {
    timeout: size(240_000, 900_000),
  }, async () => {
    const { random, between } = dice();
    const redis = await RedisServer.start();
    onTestFinished(() => redis.close());
    const nodes = await Promise.all(
      [1, 2, 3].map((n) =>
        HubProcess.start({
          redis: redis.url,
          node: `node-${n}`,
          nodeLeaseMs: 2000,
          heartbeatMs: 1000,
          livenessMs: 1500,
          resumeWindowMs: 2000,
        }),
      ),
    );
    const roads: FaultProxy[] = await Promise.all(nodes.map((node) => faultProxy({ target: () => node.http, random })));
    onTestFinished(async () => {
      for (const road of roads) await road.close();
    });
    const [events, count, kills] = [size(20_000, 50_000), 100, size(4, 60)];
    const anywhere = () => roads[between(0, 2)]!.address;
    const watchers = Array.from({ length: count }, (_, i) =>
      i % 2 === 0
        ? new SseWatcher(() => `http://${anywhere()}/v1/events?channel=client.source`)
        : new WsWatcher(() => `http://${anywhere()}/v1/ws?channel=client.source`),
    );
    onTestFinished(() => {
      for (const watcher of watchers) watcher.close();
    });
    await eventually('all watch', () => watchers.every(({ opened }) => opened > 0));
    await sleep(500); // each has got its first id, from which it can come back

    const device = await connectDevice({
      address: nodes.map(({ grpc }) => grpc).join(','),
      clientId: 'source',
      backoff: { minMs: 20, maxMs: 200 },
    });
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
        while (n % 500 === 0 && told - slowest() > 5000) await sleep(20);
      }
      await Promise.all(open);
    })();
    let isCalm = false;
    const cutting = (async () => {
      while (!isCalm) {
        await sleep(between(100, 2000));
        const road = roads[between(0, 2)]!;
        road.setFaults(random() < 0.5 ? {} : { down: { cutAfterBytes: [200, 20_000], sliceBytes: 700 } });
        road.cutSome(0.5);
      }
    })();
    for (let kill = 1; kill <= kills; kill++) {
      await eventually(
        () => `${told} of ${events} events are told`,
        () => told >= (events * kill) / (kills + 1),
      );
      const node = nodes[between(0, 2)]!;
      await node.child.kill();
      await sleep(between(0, 500));
      await node.start();
    }
    await emitting;
    isCalm = true;
    await cutting;
    for (const road of roads) {
      road.setFaults({});
      road.cutAll();
    }
    await eventually('all have seen the last one', () => slowest() >= events).catch(
      () => undefined, // what is missing is told below
    );
    const source = Array.from({ length: events }, (_, n) => n);
    for (const watcher of watchers) {
      const got = watcher.seen.filter((one) => typeof one === 'number');
      const at = source.findIndex((n) => got[n] !== n);
      const notices = watcher.seen.filter((one) => typeof one === 'string').slice(0, 5);
      expect({
        length: got.length,
        at,
        around: got.slice(Math.max(0, at - 2), at + 3),
        notices: at < 0 ? [] : notices,
      }).toEqual({ length: events, at: -1, around: got.slice(0, 2), notices: [] });
    }
    expect(
      roads.reduce((sum, { counts }) => sum + counts.cut, 0),
      'there were cuts',
    ).toBeGreaterThan(count);
  });
});
