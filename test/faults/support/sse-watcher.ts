import { type ClientRequest, request } from 'node:http';

/** Reads a channel over SSE as a browser would: by the ids that it was given, coming back whenever it is cut. */
export class SseWatcher {
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
