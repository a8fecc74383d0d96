import type { WatchClock } from '../../src/browser/clock.ts';

/** A clock that stands still until it is told to go on. */
export class FakeClock implements WatchClock {
  #now = 0;
  readonly #timers = new Set<{ at: number; run: () => void }>();

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** When the timers that are set will fire, in ms from now. */
  get waits(): number[] {
    return [...this.#timers].map(({ at }) => at - this.#now).sort((a, b) => a - b);
  }

  async advance(ms: number): Promise<void> {
    this.#now += ms;
    const due = [...this.#timers].filter(({ at }) => at <= this.#now).sort((a, b) => a.at - b.at);
    for (const timer of due) {
      this.#timers.delete(timer);
      timer.run();
    }
    await settle();
  }
}

/** Lets everything run that does not wait for a timer or the network. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** One request that the fake hub got, and its answer in the making. */
export class Exchange {
  readonly url: string;
  readonly headers: Headers;
  readonly method: string;
  readonly body: unknown;
  isCut = false;
  readonly #answer: (response: Response) => void;
  readonly #fail: (error: unknown) => void;
  #stream: ReadableStreamDefaultController<Uint8Array> | undefined;

  constructor(url: string, init: RequestInit, answer: (response: Response) => void, fail: (error: unknown) => void) {
    this.url = url;
    this.headers = new Headers(init.headers);
    this.method = init.method ?? 'GET';
    this.body = init.body;
    this.#answer = answer;
    this.#fail = fail;
    init.signal?.addEventListener('abort', () => {
      this.isCut = true;
      fail(init.signal!.reason);
      try {
        this.#stream?.error(init.signal!.reason);
      } catch {
        this.#stream = undefined; // it was at its end already
      }
    });
  }

  async respond(status: number, body: unknown = {}, headers: Record<string, string> = {}): Promise<void> {
    const noBody = status === 204;
    this.#answer(
      new Response(noBody ? null : JSON.stringify(body), {
        status,
        headers: { ...(!noBody && { 'content-type': 'application/problem+json' }), ...headers },
      }),
    );
    await settle();
  }

  async open(text = ''): Promise<void> {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#stream = controller;
      },
    });
    this.#answer(new Response(body, { headers: { 'content-type': 'text/event-stream; charset=utf-8' } }));
    await this.send(text);
  }

  async send(text: string): Promise<void> {
    if (text !== '') this.#stream!.enqueue(new TextEncoder().encode(text));
    await settle();
  }

  async end(): Promise<void> {
    this.#stream!.close();
    await settle();
  }

  /** The connection breaks. */
  async cut(): Promise<void> {
    const error = new TypeError('fetch failed');
    this.#fail(error);
    this.#stream?.error(error);
    await settle();
  }
}

/** A `fetch` whose answers the test gives. */
export class FakeHub {
  readonly exchanges: Exchange[] = [];
  readonly fetch: typeof fetch = (input, init = {}) =>
    new Promise<Response>((resolve, reject) => {
      this.exchanges.push(new Exchange(String(input), init, resolve, reject));
    });

  /** The newest request. */
  get last(): Exchange {
    return this.exchanges.at(-1)!;
  }
}

/** An event as the gateway writes it. */
export function frame(seq: number, { channel = 'fleet', epoch = 1, type = 'tick', data = {} as unknown } = {}): string {
  const body = JSON.stringify({ channel, epoch, seq, type, at: '2026-01-01T00:00:00.000Z', data });
  return `id: ${channel}-${epoch}-${seq}\nevent: ${type}\ndata: ${body}\n\n`;
}
