/** A hello on its way: first it waits for its claim, then for what the hub that had the client until now hands over. */
export class Arrival {
  /** Epoch of its claim; infinite where there was none. Never rejects. */
  readonly claimed: Promise<number>;
  /** What was handed over is here. Never rejects. */
  readonly over: Promise<void>;
  readonly #settleClaimed: (epoch: number) => void;
  readonly #settleOver: () => void;

  constructor() {
    const claimed = Promise.withResolvers<number>();
    const over = Promise.withResolvers<void>();
    this.claimed = claimed.promise;
    this.over = over.promise;
    this.#settleClaimed = claimed.resolve;
    this.#settleOver = over.resolve;
  }

  hasClaimed(epoch: number): void {
    this.#settleClaimed(epoch);
  }

  isOver(): void {
    this.#settleClaimed(Number.POSITIVE_INFINITY);
    this.#settleOver();
  }
}

/**
 * Resolves once what came with claims older than `epoch` is here. Only older ones are waited for, so that of hubs that
 * wait for each other one does not.
 */
export async function olderOnes(arrivals: Iterable<Arrival>, epoch: number): Promise<void> {
  await Promise.all(
    [...arrivals].map(async ({ claimed, over }) => {
      if ((await claimed) < epoch) await over;
    }),
  );
}
