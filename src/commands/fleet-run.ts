import { HubError, type HubErrorCode, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';

/** What became of one client's command. */
export type FleetOutcome<T> =
  | { readonly clientId: string; readonly outcome: 'succeeded'; readonly result: T }
  | { readonly clientId: string; readonly outcome: FleetFailure; readonly error: HubError }
  /** Not sent: too many others had failed, or the whole was aborted. */
  | { readonly clientId: string; readonly outcome: 'skipped' };

/** How a client's command can miss. `refused`: not accepted by the hub, see the error's code. */
export type FleetFailure =
  | 'failed'
  | 'rejected'
  | 'cancelled'
  | 'expired'
  | 'unknown'
  | 'offline'
  | 'timed-out'
  | 'refused';

/** How fast, and how far into failure. */
export interface FleetPace {
  /** Commands on their way at once. */
  readonly concurrency: number;
  /** Most commands begun in a second. */
  readonly ratePerSecond: number;
  /** Whether to go on, after so many ended and so many of them failed. */
  readonly goesOn: (ended: number, failed: number) => boolean;
  readonly signal: AbortSignal | undefined;
  readonly clock: Clock;
}

/** How many there were of each outcome. */
export type FleetSummary = Readonly<Record<FleetOutcome<unknown>['outcome'], number>>;

/**
 * One command to many clients, as outcomes in the order in which they come. It begins when it is iterated, and once.
 * A reader that is slow slows it down; one that leaves the loop begins no more, and what is on its way goes on.
 */
export class FleetRun<T> implements AsyncIterable<FleetOutcome<T>> {
  readonly #select: () => Promise<readonly string[]>;
  readonly #call: (clientId: string) => Promise<T>;
  readonly #pace: FleetPace;
  #isBegun = false;

  constructor(select: () => Promise<readonly string[]>, call: (clientId: string) => Promise<T>, pace: FleetPace) {
    this.#select = select;
    this.#call = call;
    this.#pace = pace;
  }

  /** All outcomes, once the last has come. */
  async all(): Promise<FleetOutcome<T>[]> {
    const outcomes: FleetOutcome<T>[] = [];
    for await (const outcome of this) outcomes.push(outcome);
    return outcomes;
  }

  /** How many there were of each, once the last has come. */
  async summary(): Promise<FleetSummary> {
    const counts = { ...noOutcomes };
    for await (const { outcome } of this) counts[outcome]++;
    return counts;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<FleetOutcome<T>, void, undefined> {
    if (this.#isBegun)
      throw new HubError('invalid-argument', 'this fleet run was iterated before: it would send all again');
    this.#isBegun = true;
    const { concurrency, ratePerSecond, goesOn, signal, clock } = this.#pace;
    const ids = await this.#select();
    const done: FleetOutcome<T>[] = [];
    let running = 0;
    let ended = 0;
    let failed = 0;
    let next = 0;
    let mayBeginAtMs = clock.monotonic();
    let wake: () => void = () => undefined;
    let stopTimer: (() => void) | undefined;
    const begin = (clientId: string): void => {
      running++;
      const end = (outcome: FleetOutcome<T>): void => {
        running--;
        ended++;
        if (outcome.outcome !== 'succeeded') failed++;
        done.push(outcome);
        wake();
      };
      this.#call(clientId).then(
        (result) => end({ clientId, outcome: 'succeeded', result }),
        (thrown: unknown) => {
          const error = toHubError(thrown);
          end({ clientId, outcome: failureOf[error.code] ?? 'refused', error });
        },
      );
    };
    try {
      for (;;) {
        const isStopped = signal?.aborted === true || !goesOn(ended, failed);
        while (
          !isStopped &&
          next < ids.length &&
          running + done.length < concurrency &&
          clock.monotonic() >= mayBeginAtMs
        ) {
          // A run that fell behind does not make up for it in a burst.
          mayBeginAtMs = Math.max(mayBeginAtMs, clock.monotonic() - 1000 / ratePerSecond) + 1000 / ratePerSecond;
          begin(ids[next++]!);
        }
        const outcome = done.shift();
        if (outcome !== undefined) {
          yield outcome;
          continue;
        }
        if (running === 0 && (isStopped || next === ids.length)) break;
        await new Promise<void>((resolve) => {
          wake = resolve;
          // Only the rate holds it back: its time may have come since the loop above looked.
          const waitMs = Math.max(0, mayBeginAtMs - clock.monotonic());
          if (!isStopped && next < ids.length && running < concurrency) stopTimer = clock.after(waitMs, resolve);
          signal?.addEventListener('abort', wake);
        });
        stopTimer?.();
        signal?.removeEventListener('abort', wake);
      }
      for (const clientId of ids.slice(next)) yield { clientId, outcome: 'skipped' };
    } finally {
      stopTimer?.();
      signal?.removeEventListener('abort', wake);
    }
  }
}

const failureOf: Partial<Record<HubErrorCode, FleetFailure>> = {
  'command-failed': 'failed',
  'command-rejected': 'rejected',
  'command-cancelled': 'cancelled',
  'command-expired': 'expired',
  'outcome-unknown': 'unknown',
  'client-offline': 'offline',
  'deadline-exceeded': 'timed-out',
};

const noOutcomes = {
  succeeded: 0,
  failed: 0,
  rejected: 0,
  cancelled: 0,
  expired: 0,
  unknown: 0,
  offline: 0,
  'timed-out': 0,
  refused: 0,
  skipped: 0,
};
