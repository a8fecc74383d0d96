import { HubError } from '../../errors.ts';

/** Counts open streams, in total and by whose they are. */
export class StreamLimits {
  readonly #total: number;
  readonly #perSubject: number;
  readonly #bySubject = new Map<string, number>();
  #open = 0;

  constructor(total: number, perSubject: number) {
    this.#total = total;
    this.#perSubject = perSubject;
  }

  get open(): number {
    return this.#open;
  }

  /** Takes a place, or throws `resource-exhausted`. Nobody owns `anonymous`, so only the total counts for it. */
  take(subject: string): void {
    if (this.#open >= this.#total)
      throw new HubError('resource-exhausted', `${this.#total} event streams are open, no more are served`, {
        retryAfterMs: 5_000,
      });
    const own = this.#bySubject.get(subject) ?? 0;
    if (own >= this.#perSubject && subject !== 'anonymous')
      throw new HubError('resource-exhausted', `"${subject}" has ${own} event streams open, which is the limit`, {
        retryAfterMs: 5_000,
      });
    this.#bySubject.set(subject, own + 1);
    this.#open++;
  }

  give(subject: string): void {
    const own = (this.#bySubject.get(subject) ?? 1) - 1;
    if (own > 0) this.#bySubject.set(subject, own);
    else this.#bySubject.delete(subject);
    this.#open--;
  }
}
