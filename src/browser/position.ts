/** A place in a channel. Epochs and numbers only grow. */
interface Place {
  readonly epoch: number;
  readonly seq: number;
}

/** Remembers how far each channel has come, and so recognises what is told a second time. */
export class Positions {
  readonly #places = new Map<string, Place>();

  /** True if this event is new; false if the channel has already come this far. */
  advance(channel: string, { epoch, seq }: Place): boolean {
    const last = this.#places.get(channel);
    if (last !== undefined && (epoch < last.epoch || (epoch === last.epoch && seq <= last.seq))) return false;
    this.#places.set(channel, { epoch, seq });
    return true;
  }

  /** The channel's numbers begin anew. */
  forget(channel: string | undefined): void {
    if (channel === undefined) this.#places.clear();
    else this.#places.delete(channel);
  }
}
