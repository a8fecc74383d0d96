import type { Cluster, Redis } from 'ioredis';
import { toHubError } from '../errors.ts';
import type { RedisConnection } from './connection.ts';

/** A connection on which nothing was heard for this many ms is asked whether it is alive. */
const watchMs = 5000;

/**
 * The one connection of a process that listens to channels. What comes over it is only ever a hint to look: it may be
 * late, or lost together with the connection, which comes back by itself.
 */
export class RedisSubscriber {
  readonly #connection: RedisConnection;
  readonly #client: Redis | Cluster;
  readonly #listeners = new Map<string, Set<(message: string) => void>>();
  readonly #resumed = new Set<() => void>();
  #letGo: () => void = () => undefined;
  #isClosed = false;

  constructor(connection: RedisConnection) {
    this.#connection = connection;
    this.#client = connection.another({
      connectionName: 'signalbox-subscriber',
      // Subscribed anew by us: ioredis lets the promise of its own attempt go, and a rejection would end the process.
      autoResubscribe: false,
    });
    this.#client.on('message', (channel: string, message: string) => {
      for (const listener of [...(this.#listeners.get(channel) ?? [])]) listener(message);
    });
    this.#client.on('ready', () => {
      const channels = [...this.#listeners.keys()];
      if (channels.length > 0) this.#ask(() => this.#client.subscribe(...channels));
      for (const listener of [...this.#resumed]) listener();
    });
    this.#watch();
  }

  /** Calls back with each message on a channel. Returns the release. */
  subscribe(channel: string, listener: (message: string) => void): () => void {
    const known = this.#listeners.get(channel);
    const listeners = known ?? new Set();
    if (!known) {
      this.#listeners.set(channel, listeners);
      this.#ask(() => this.#client.subscribe(channel));
    }
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size > 0 || this.#listeners.get(channel) !== listeners) return;
      this.#listeners.delete(channel);
      this.#ask(() => this.#client.unsubscribe(channel));
    };
  }

  /** Calls back each time that it listens again: messages may have been missed. Returns the release. */
  onResumed(listener: () => void): () => void {
    this.#resumed.add(listener);
    return () => this.#resumed.delete(listener);
  }

  close(): void {
    this.#isClosed = true;
    this.#letGo();
    this.#listeners.clear();
    this.#client.disconnect();
  }

  /** A question without answer ends the connection (`socketTimeout`), and the next one subscribes anew. */
  #watch(): void {
    this.#letGo = this.#connection.settings.clock.after(watchMs, () => {
      if (this.#client.status === 'ready') this.#client.ping().catch(() => undefined);
      this.#watch();
    });
  }

  /** While it is not connected there is nothing to ask: all is asked once it is. */
  #ask(question: () => Promise<unknown>): void {
    if (this.#client.status !== 'ready') return;
    question().catch((error: unknown) => {
      if (!this.#isClosed) this.#connection.settings.observe({ kind: 'redis-trouble', error: toHubError(error) });
    });
  }
}
