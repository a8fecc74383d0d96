import { afterEach, expect, onTestFinished, test } from 'vitest';
import { type FaultProxy, faultProxy } from '../../src/testing/index.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer } from '../support/redis.ts';
import { Audience } from './support/audience.ts';
import { killAll } from './support/child.ts';
import { HubProcess } from './support/hub.ts';
import { dice, size, sleep } from './support/sizes.ts';

afterEach(killAll);

describeNeeding('redis', 'watching at several nodes', () => {
  test('watchers over SSE and WebSocket that are cut, and come back at another node, see every event once and in order, over kills of nodes (P18)', {
    timeout: size(600_000, 1_200_000),
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
    const audience = await Audience.open(count, anywhere);

    const telling = audience.tell(events, nodes.map(({ grpc }) => grpc).join(','), between);
    let isCalm = false;
    const cutting = (async () => {
      while (!isCalm) {
        await sleep(between(100, 2000));
        const road = roads[between(0, 2)]!;
        road.setFaults(random() < 0.5 ? {} : { down: { cutAfterBytes: [200, 20_000], sliceBytes: 700 } });
        road.cutSome(0.5);
      }
    })();
    await audience.killMeanwhile(events, kills, async () => {
      const node = nodes[between(0, 2)]!;
      await node.child.kill();
      await sleep(between(0, 500));
      await node.start();
    });
    await telling;
    isCalm = true;
    await cutting;
    for (const road of roads) {
      road.setFaults({});
      road.cutAll();
    }
    await audience.expectAll(events);
    expect(
      roads.reduce((sum, { counts }) => sum + counts.cut, 0),
      'there were cuts',
    ).toBeGreaterThan(count);
  });
});
