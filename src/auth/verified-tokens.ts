import type { Clock } from '../flow/clock.ts';
import type { Principal } from './principal.ts';

const maxTokens = 1000;

/**
 * Tokens whose signature was found good by a secret that never changes: all that can still happen to them is their
 * end. Saves the most part of a call's cost, which is the signature. Holds verified tokens only, the newest 1000.
 */
export class VerifiedTokens {
  readonly #clock: Clock;
  readonly #principals = new Map<string, Principal>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Undefined: has to be verified (again). */
  get(token: string): Principal | undefined {
    const principal = this.#principals.get(token);
    if (principal?.expiresAtMs === undefined || principal.expiresAtMs > this.#clock.now()) return principal;
    this.#principals.delete(token);
    return undefined;
  }

  add(token: string, principal: Principal): void {
    if (this.#principals.size >= maxTokens) {
      const [oldest] = this.#principals.keys();
      this.#principals.delete(oldest!);
    }
    this.#principals.set(token, principal);
  }
}
