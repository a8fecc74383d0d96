import { HubError, toHubError } from '../errors.ts';
import type { Observe } from './facts.ts';

/** What was opened, to be closed in the reverse order. */
export class Parts {
  readonly #observe: Observe;
  readonly #open: { readonly name: string; readonly close: () => unknown }[] = [];

  constructor(observe: Observe) {
    this.#observe = observe;
  }

  /** Notes a part that is open now. */
  add<T>(name: string, part: T, close: (part: T) => unknown): T {
    this.#open.push({ name, close: () => close(part) });
    return part;
  }

  /** Closes everything. One part that fails does not keep the others open; the first failure is thrown at the end. */
  async close(): Promise<void> {
    let failure: HubError | undefined;
    for (let part = this.#open.pop(); part !== undefined; part = this.#open.pop())
      try {
        await part.close();
      } catch (cause) {
        const { code, message } = toHubError(cause);
        this.#observe({ kind: 'server-close-failed', part: part.name, message, cause });
        failure ??= new HubError(code, `closing ${part.name} failed: ${message}`, { cause });
      }
    if (failure) throw failure;
  }
}
