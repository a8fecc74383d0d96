import { expect, onTestFinished } from 'vitest';
import { connectDevice } from '../../../src/device/index.ts';
import { eventually, sleep } from './sizes.ts';
import { SseWatcher } from './sse-watcher.ts';
import { WsWatcher } from './ws-watcher.ts';

/** Watchers of one device's events, half of them over SSE and half over WebSocket, that come back whatever happens. */
export class Audience {
  readonly #watchers: readonly (SseWatcher | WsWatcher)[];
  /** How many events its device has told so far. */
  told = 0;

  private constructor(watchers: readonly (SseWatcher | WsWatcher)[]) {
    this.#watchers = watchers;
  }

  /** Resolves once all of them watch; `anywhere` gives the host and port for each attempt to connect. */
  static async open(count: number, anywhere: () => string): Promise<Audience> {
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
    return new Audience(watchers);
  }

  get #slowest(): number {
    return Math.min(...this.#watchers.map(({ ticks }) => ticks));
  }

  /** A device at `address` tells so many numbered events; nobody falls so far behind that it would be told of a gap. */
  async tell(events: number, address: string, between: (low: number, high: number) => number): Promise<void> {
    const device = await connectDevice({ address, clientId: 'source', backoff: { minMs: 20, maxMs: 200 } });
    onTestFinished(() => device.close({ timeoutMs: 0 }));
    const open = new Set<Promise<void>>();
    for (let n = 0; n < events; n++) {
      const one = device.emit('tick', { n, pad: 'z'.repeat(between(0, 300)) }).then(() => void open.delete(one));
      open.add(one);
      while (open.size >= 50) await Promise.race(open);
      this.told = n + 1;
      // The hub keeps 10,000 events of a channel.
      while (n % 500 === 0 && this.told - this.#slowest > 5000) await sleep(20);
    }
    await Promise.all(open);
  }

  /** Runs `kill` so many times, spread over the telling of `events`. */
  async killMeanwhile(events: number, kills: number, kill: () => Promise<void>): Promise<void> {
    for (let done = 1; done <= kills; done++) {
      await eventually(
        () => `${this.told} of ${events} events are told`,
        () => this.told >= (events * done) / (kills + 1),
      );
      await kill();
    }
  }

  /** Each has seen every event, once and in order, and was told of no gap. */
  async expectAll(events: number): Promise<void> {
    await eventually('all have seen the last one', () => this.#slowest >= events).catch(
      () => undefined, // what is missing is told below
    );
    const source = Array.from({ length: events }, (_, n) => n);
    for (const { seen } of this.#watchers) {
      const got = seen.filter((one) => typeof one === 'number');
      const at = source.findIndex((n) => got[n] !== n);
      const notices = at < 0 ? [] : seen.filter((one) => typeof one === 'string').slice(0, 5);
      const around = got.slice(Math.max(0, at - 2), at + 3);
      expect({ length: got.length, at, around, notices }).toEqual({
        length: events,
        at: -1,
        around: got.slice(0, 2),
        notices: [],
      });
    }
  }
}
