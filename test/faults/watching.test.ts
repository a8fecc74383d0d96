import { expect, onTestFinished, test } from 'vitest';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { faultProxy } from '../../src/testing/index.ts';
import { rig } from '../gateway/support.ts';
import { Audience } from './support/audience.ts';
import { dice, eventually, size, sleep } from './support/sizes.ts';
import { SseWatcher } from './support/sse-watcher.ts';
import { World } from './support/world.ts';
import { WsWatcher } from './support/ws-watcher.ts';

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

/** What one watcher saw, held against the source: each number comes next, or a notice names all that is missing before it. */
function holes(seen: readonly (number | string)[]): { broken: string[]; gaps: number } {
  const broken: string[] = [];
  let gaps = 0;
  let last: number | undefined;
  for (const one of seen) {
    // The source's nth event, from 0, has the number n + 1 in its channel.
    if (typeof one === 'number') {
      if (last !== undefined && one !== last) broken.push(`${one + 1} came after ${last}`);
      last = one + 1;
      continue;
    }
    const [notice, json] = [one.slice(0, one.indexOf(' ')), one.slice(one.indexOf(' ') + 1)];
    if (notice === 'hub.open') continue;
    if (notice !== 'hub.gap') broken.push(`${one} after ${last}`);
    const { from, to } = JSON.parse(json) as { from: number; to: number };
    if (last !== undefined && from !== last + 1) broken.push(`a gap from ${from} to ${to} was told after ${last}`);
    last = to;
    gaps++;
  }
  return { broken, gaps };
}

test('watchers that are away for longer than events are kept are told each gap, by its very numbers (P18)', async () => {
  const { random, between } = dice();
  const kept = 100;
  await using at = await rig({ log: memoryEventLog({ ringEvents: kept }) });
  const road = await faultProxy({ target: new URL(at.url).host, random });
  onTestFinished(() => road.close());
  const watchers = Array.from({ length: 100 }, (_, i) =>
    i % 2 === 0
      ? new SseWatcher(() => `http://${road.address}/v1/events?channel=client.source`)
      : new WsWatcher(() => `http://${road.address}/v1/ws?channel=client.source`),
  );
  onTestFinished(() => {
    for (const watcher of watchers) watcher.close();
  });
  await eventually('all watch', () => watchers.every(({ opened }) => opened > 0));
  const events = size(20_000, 200_000);
  for (let n = 0; n < events; ) {
    for (const most = Math.min(events, n + between(1, 60)); n < most; n++) at.append('client.source', 'tick', { n });
    await sleep(5);
    const chance = random();
    if (chance < 0.1) road.cutSome(0.3);
    // Some of the time nobody gets in, and more goes by than is kept.
    if (chance < 0.05) road.block();
    else if (chance > 0.9) road.unblock();
  }
  road.unblock();
  road.cutAll();
  // The last one may itself be a gap's: these come after it, and few enough to be kept.
  for (let n = events; n < events + kept / 2; n++) at.append('client.source', 'tick', { n });
  const last = events + kept / 2 - 1;
  await eventually('all have seen the last one', () => watchers.every(({ seen }) => seen.at(-1) === last));
  const all = watchers.map(({ seen }) => holes(seen));
  expect(all.flatMap(({ broken }) => broken).slice(0, 10)).toEqual([]);
  expect(Math.min(...all.map(({ gaps }) => gaps)), 'gaps of who had the fewest').toBeGreaterThan(0);
  expect(Math.min(...watchers.map(({ ticks }) => ticks)), 'events of who saw the fewest').toBeGreaterThan(kept);
});
