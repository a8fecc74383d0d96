import { type ClientRequest, request } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { faultProxy } from '../../src/testing/index.ts';
import { dice, eventually, size, sleep } from './support/sizes.ts';
import { World } from './support/world.ts';

/** Reads a channel over SSE as a browser would: by the ids that it was given, coming back whenever it is cut. */
class SseWatcher {
  readonly #url: () => string;
  /** What it saw: numbers of ticks, and the hub's own notices. */
  readonly seen: (number | string)[] = [];
  opened = 0;
  /** How many of these are ticks. */
  ticks = 0;
  #id: string | undefined;
  #request: ClientRequest | undefined;
  #isClosed = false;

  constructor(url: () => string) {
    this.#url = url;
    this.#connect();
  }

  close(): void {
    this.#isClosed = true;
    this.#request?.destroy();
  }

  #connect(): void {
    if (this.#isClosed) return;
    let isOver = false;
    const again = (): void => {
      if (isOver) return;
      isOver = true;
      setTimeout(() => this.#connect(), 30);
    };
    const headers = this.#id === undefined ? {} : { 'last-event-id': this.#id };
    const asked = request(this.#url(), { headers, agent: false }, (response) => {
      if (response.statusCode === 200) this.opened++;
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
        const frames = text.split('\n\n');
        text = frames.pop()!;
        for (const frame of frames) this.#take(frame);
      });
      response.on('error', again);
      response.on('close', again);
    });
    asked.on('error', again);
    asked.end();
    this.#request = asked;
  }

  /** A whole frame; half a frame of a stream that was cut is forgotten. */
  #take(frame: string): void {
    const field = (name: string): string | undefined =>
      frame
        .split('\n')
        .find((line) => line.startsWith(`${name}: `))
        ?.slice(name.length + 2);
    this.#id = field('id') ?? this.#id;
    const event = field('event');
    if (event === 'tick') {
      this.ticks++;
      this.seen.push((JSON.parse(field('data')!) as { data: { n: number } }).data.n);
    } else if (event?.startsWith('hub.')) this.seen.push(`${event} ${field('data')}`);
  }
}

test('watchers that are cut again and again, also by the death of the hub, see every event once and in order (P18)', {
  timeout: size(120_000, 900_000),
}, async () => {
  const { random, between } = dice();
  const world = await World.open();
  const { hub } = world;
  const road = await faultProxy({ target: () => hub.http, random });
  onTestFinished(() => road.close());
  const [events, count, kills] = [20_000, 100, size(3, 30)];
  const watchers = Array.from(
    { length: count },
    () => new SseWatcher(() => `http://${road.address}/v1/events?channel=client.source`),
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
  const ticks = (watcher: SseWatcher): number[] => watcher.seen.filter((one) => typeof one === 'number');
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
