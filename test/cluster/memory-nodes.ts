import type { NodeInfo } from '../../src/cluster/client-directory.ts';
import { LinkBroken, type NodeLink, type NodeLinks } from '../../src/cluster/node-link.ts';

/** The ends of several nodes in one process, by address. */
export class MemoryNodes {
  readonly #ends = new Map<string, NodeLink>();

  add(address: string, end: NodeLink): void {
    this.#ends.set(address, end);
  }

  remove(address: string): void {
    this.#ends.delete(address);
  }

  /** The links of one of them. */
  links(): NodeLinks {
    return {
      to: (node) => this.#to(node),
      keepOnly: () => undefined,
      close: async () => undefined,
    };
  }

  #to({ id, address }: NodeInfo): NodeLink {
    const end = this.#ends.get(address);
    if (end) return end;
    const broken = (): LinkBroken => new LinkBroken(`node ${id} is not there`, { mayHaveArrived: false });
    const failing = { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(broken()) }) };
    const reject = (): Promise<never> => Promise.reject(broken());
    return {
      send: () => failing,
      settle: reject,
      watch: () => failing,
      cancel: reject,
      get: reject,
      list: reject,
      yield: reject,
      client: reject,
      disconnect: reject,
    };
  }
}
