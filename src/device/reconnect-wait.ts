import { Backoff } from '../flow/backoff.ts';
import type { Clock } from '../flow/clock.ts';
import { type Drain, type Goodbye, GoodbyeReason } from '../protocol/gen/signalbox/v1/device.ts';

export interface ReconnectWaitOptions {
  readonly clock: Clock;
  readonly random: () => number;
  readonly backoff: { readonly minMs?: number | undefined; readonly maxMs?: number | undefined };
  /** A stream that lived this long was stable: the next attempt is made soon again. */
  readonly stableAfterMs: number;
}

/** Where the wait after a takeover begins, when the hub gives no hint: two devices with one id must not fight fast. */
const takenOverMs = 15_000;

/** How long to wait before the next attempt to connect: as chance says, and not before the hub wants it. */
export class ReconnectWait {
  readonly #options: ReconnectWaitOptions;
  readonly #backoff: Backoff;
  #welcomedAt: number | undefined;
  /** When the hub has asked us to connect again, monotonic. */
  #drainAt: number | undefined;

  constructor(options: ReconnectWaitOptions) {
    this.#options = options;
    this.#backoff = new Backoff({ ...options.backoff, random: options.random });
  }

  /** Attempts since the last stable stream. */
  get attempts(): number {
    return this.#backoff.attempts;
  }

  onWelcome(): void {
    this.#welcomedAt = this.#options.clock.monotonic();
  }

  /** The hub is about to close. In how many ms this device is to leave it. */
  onDrain({ reconnectAfterMs, spreadMs }: Drain): number {
    const { clock, random } = this.#options;
    const inMs = reconnectAfterMs + random() * spreadMs;
    this.#drainAt = clock.monotonic() + inMs;
    return inMs;
  }

  /** The wait after a stream, in ms; `goodbye` is what the hub said at its end, if it did. */
  next(goodbye: Goodbye | undefined): number {
    const now = this.#options.clock.monotonic();
    if (this.#welcomedAt !== undefined && now - this.#welcomedAt >= this.#options.stableAfterMs) this.#backoff.reset();
    const announced = this.#drainAt === undefined ? undefined : Math.max(0, this.#drainAt - now);
    const leastMs = goodbye ? askedFor(goodbye, announced ?? 0) : 0;
    this.#welcomedAt = undefined;
    this.#drainAt = undefined;
    if (leastMs > 0) return Math.max(announced ?? 0, leastMs + this.#backoff.next());
    return announced ?? this.#backoff.next();
  }
}

/** The least wait that a goodbye asks for, in ms. */
function askedFor({ reason, retryAfterMs }: Goodbye, announced: number): number {
  // The later one of two times that were drawn by chance would bring most devices back late and together.
  if (reason === GoodbyeReason.GOODBYE_REASON_DRAINING && announced > 0) return 0;
  return retryAfterMs || (reason === GoodbyeReason.GOODBYE_REASON_TAKEN_OVER ? takenOverMs : 0);
}
