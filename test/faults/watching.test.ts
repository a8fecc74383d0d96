import { expect, onTestFinished, test } from 'vitest';
import { faultProxy } from '../../src/testing/index.ts';
import { Audience } from './support/audience.ts';
import { dice, size, sleep } from './support/sizes.ts';
import { World } from './support/world.ts';

test('watchers over SSE and WebSocket that are cut again and again, also by the death of the hub, see every event once and in order (P18)', {
  timeout: size(600_000, 1_200_000),
}, async () => {
  const { random, between } = dice();
  const { hub } = await World.open();
  const road = await faultProxy({ target: () => hub.http, random });
  onTestFinished(() => road.close());
  const [events, count, kills] = [20_000, 100, size(3, 30)];
  const audience = await Audience.open(count, () => road.address);

  const telling = audience.tell(events, hub.grpc, between);
  let isCalm = false;
  const cutting = (async () => {
    while (!isCalm) {
      await sleep(between(50, 400));
      road.setFaults(random() < 0.5 ? {} : { down: { cutAfterBytes: [200, 20_000], sliceBytes: 700 } });
      road.cutSome(0.3);
    }
  })();
  await audience.killMeanwhile(events, kills, async () => {
    await hub.child.kill();
    await hub.start();
  });
  await telling;
  isCalm = true;
  await cutting;
  road.setFaults({});
  road.cutAll();
  await audience.expectAll(events);
  expect(road.counts.cut, 'there were cuts').toBeGreaterThan(count);
});
