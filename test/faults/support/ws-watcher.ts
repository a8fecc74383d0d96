import { WsClient } from '../../gateway/ws-client.ts';

/** Reads a channel over a WebSocket: by the ids that it was given, coming back whenever it is cut. */
export class WsWatcher {
  readonly #url: () => string;
  /** What it saw: numbers of ticks, and the hub's own notices. */
  readonly seen: (number | string)[] = [];
  opened = 0;
  /** How many of these are ticks. */
  ticks = 0;
  #id: string | undefined;
  #client: WsClient | undefined;
  #isClosed = false;

  constructor(url: () => string) {
    this.#url = url;
    void this.#run();
  }

  close(): void {
    this.#isClosed = true;
    this.#client?.leave();
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      const from = this.#id === undefined ? '' : `&last_event_id=${encodeURIComponent(this.#id)}`;
      // Cut on the way, or the hub is away: again in a moment.
      this.#client = await WsClient.open(`${this.#url()}${from}`).catch(() => undefined);
      if (this.#client) await this.#read(this.#client);
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  }

  async #read(client: WsClient): Promise<void> {
    for (let message = await client.next(); message !== undefined; message = await client.next()) {
      const { id, event, data } = message;
      this.#id = id ?? this.#id;
      if (event === 'tick') {
        this.ticks++;
        this.seen.push((data as { data: { n: number } }).data.n);
      } else if (event === 'hub.open') this.opened++;
      else if (event.startsWith('hub.')) this.seen.push(`${event} ${JSON.stringify(data)}`);
    }
  }
}
