import { Channel, type ChannelCredentials, type ChannelOptions, connectivityState } from '@grpc/grpc-js';

type ChannelInterface = Pick<
  Channel,
  'close' | 'getTarget' | 'getConnectivityState' | 'watchConnectivityState' | 'getChannelzRef' | 'createCall'
>;

/**
 * One channel over several hubs that do for each other: calls go to one of them, and to another once that one cannot
 * be reached. It begins with the first; hand it the addresses in an order of its own where many callers come at once.
 */
export class SeveralChannels implements ChannelInterface {
  readonly #channels: readonly Channel[];
  #at = 0;

  constructor(targets: readonly string[], credentials: ChannelCredentials, options: ChannelOptions) {
    this.#channels = targets.map((target) => new Channel(target, credentials, options));
  }

  /** How many hubs there are to try. */
  get size(): number {
    return this.#channels.length;
  }

  /** Number of the hub that calls go to. */
  get at(): number {
    return this.#at;
  }

  /** The next call goes to another hub than this one. */
  moveOn(hub: number): void {
    // Many calls are lost together: the first one moves on for all.
    if (hub === this.#at) this.#at = (this.#at + 1) % this.#channels.length;
  }

  createCall(...args: Parameters<Channel['createCall']>): ReturnType<Channel['createCall']> {
    return this.#pick().createCall(...args);
  }

  getConnectivityState(tryToConnect: boolean): connectivityState {
    return this.#pick().getConnectivityState(tryToConnect);
  }

  watchConnectivityState(...args: Parameters<Channel['watchConnectivityState']>): void {
    this.#pick().watchConnectivityState(...args);
  }

  getTarget(): string {
    return this.#channels.map((channel) => channel.getTarget()).join(',');
  }

  getChannelzRef(): ReturnType<Channel['getChannelzRef']> {
    return this.#pick().getChannelzRef();
  }

  close(): void {
    for (const channel of this.#channels) channel.close();
  }

  /** The current one; if that could not connect just now, the next that has not failed. */
  #pick(): Channel {
    for (let tried = 0; tried < this.#channels.length; tried++) {
      const channel = this.#channels[this.#at]!;
      if (channel.getConnectivityState(false) !== connectivityState.TRANSIENT_FAILURE) return channel;
      this.moveOn(this.#at);
    }
    return this.#channels[this.#at]!;
  }
}
