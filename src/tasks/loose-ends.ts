/**
 * What a task has begun and was handed as promises. Its run is not over before they are, and one that fails without anybody
 * waiting for it is not covered up by a good end. Nobody falls over a promise that is let go of.
 */
export class LooseEnds {
  readonly #open = new Set<Promise<unknown>>();
  readonly #failed: { readonly error: unknown; readonly isTaken: () => boolean }[] = [];

  /** Its failure fails the run, whatever the task does about it. */
  required<T>(work: Promise<T>): Promise<T> {
    this.#note(work, () => false);
    return work;
  }

  /** Its failure fails the run, unless the task waits for it: then it is the task's own affair. */
  optional<T>(work: Promise<T>): Promise<T> {
    const handed = new Handed<T>((resolve) => resolve(work));
    this.#note(handed, () => handed.isTaken);
    return handed;
  }

  /** Resolves once all have ended. Rejects with the first failure that is left. */
  async tied(): Promise<void> {
    while (this.#open.size > 0) await Promise.allSettled(this.#open);
    const left = this.#failed.find(({ isTaken }) => !isTaken());
    if (left) throw left.error;
  }

  #note(work: Promise<unknown>, isTaken: () => boolean): void {
    const ended: Promise<void> = listen(
      work,
      () => void this.#open.delete(ended),
      (error) => {
        this.#open.delete(ended);
        this.#failed.push({ error, isTaken });
      },
    );
    this.#open.add(ended);
  }
}

/** A promise that knows whether anybody but us listens: `await`, `then` and `Promise.all` ask a subclass for its `then`. */
class Handed<T> extends Promise<T> {
  isTaken = false;

  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  // biome-ignore lint/suspicious/noThenProperty: it is a promise
  override then<A = T, B = never>(
    onValue?: ((value: T) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.isTaken = true;
    return super.then(onValue, onError);
  }
}

/** Listens without being taken for somebody who does. */
function listen(work: Promise<unknown>, onValue: () => void, onError: (error: unknown) => void): Promise<void> {
  return Promise.prototype.then.call(work, onValue, onError) as Promise<void>;
}
