import type { NodeInfo } from '../../src/cluster/client-directory.ts';
import { LinkBroken, type NodeLink, type NodeLinks } from '../../src/cluster/node-link.ts';

/** The ends of several nodes in one process, by address, and the links to them. */
export class MemoryNodes {
  readonly #ends = new Map<string, { end: NodeLink; broken: Promise<never>; break: () => void }>();

  add(address: string, end: NodeLink): void {
    const { promise, reject } = Promise.withResolvers<never>();
    promise.catch(() => undefined);
    const broken = (): void => reject(new LinkBroken(`the link to ${address} broke`, { mayHaveArrived: true }));
    this.#ends.set(address, { end, broken: promise, break: broken });
  }

  /** Breaks what is under way, and lets nobody through any more. */
  remove(address: string): void {
    this.#ends.get(address)?.break();
    this.#ends.delete(address);
  }

  links(): NodeLinks {
    return { to: (node) => this.#to(node), keepOnly: () => undefined, close: async () => undefined };
  }

  #to({ id, address }: NodeInfo): NodeLink {
    const ask = <T>(call: (end: NodeLink) => Promise<T>): Promise<T> => {
      const known = this.#ends.get(address);
      if (!known) return Promise.reject(new LinkBroken(`node ${id} is not there`, { mayHaveArrived: false }));
      return Promise.race([call(known.end), known.broken]);
    };
    const read = <T>(call: (end: NodeLink) => AsyncIterable<T>): AsyncIterable<T> => ({
      [Symbol.asyncIterator]: () => {
        const known = this.#ends.get(address);
        const source = known && call(known.end)[Symbol.asyncIterator]();
        return {
          next: () => (source ? Promise.race([source.next(), known.broken]) : ask(async () => undefined as never)),
          return: async () => (await source?.return?.()) ?? { value: undefined, done: true },
        };
      },
    });
    return {
      send: (...args) => read((end) => end.send(...args)),
      settle: (...args) => ask((end) => end.settle(...args)),
      watch: (...args) => read((end) => end.watch(...args)),
      cancel: (...args) => ask((end) => end.cancel(...args)),
      get: (...args) => ask((end) => end.get(...args)),
      list: (...args) => ask((end) => end.list(...args)),
      yield: (...args) => ask((end) => end.yield(...args)),
      client: (...args) => ask((end) => end.client(...args)),
      disconnect: (...args) => ask((end) => end.disconnect(...args)),
    };
  }
}
