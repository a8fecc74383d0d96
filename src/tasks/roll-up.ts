import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';

export interface RollUpOptions {
  /** How long texts are collected, in ms: 0 (not at all) to 500. Default: 40. */
  readonly windowMs?: number | undefined;
  /** Characters at which a text goes out before that. Default: 8192. */
  readonly maxLength?: number | undefined;
  readonly clock?: Clock | undefined;
}

/**
 * Joins the texts that a source yields within a window into one: an answer in a thousand tokens becomes some dozens of
 * events. The first text goes out at once, and everything that is no text goes by itself, in its order.
 */
export async function* rollUp(
  source: AsyncIterable<unknown> | Iterable<unknown>,
  { windowMs = 40, maxLength = 8192, clock = systemClock }: RollUpOptions = {},
): AsyncGenerator<unknown> {
  if (!(windowMs >= 0 && windowMs <= 500))
    throw new HubError('invalid-argument', `a roll-up window of ${windowMs} ms: it has to be 0 to 500`);
  if (windowMs === 0) {
    yield* source;
    return;
  }
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let isDone = false;
  let text = '';
  let closesAtMs = 0;
  let pending: Promise<IteratorResult<unknown>> | undefined;
  try {
    for (;;) {
      pending ??= Promise.resolve(iterator.next());
      // When the window closes first, the step is looked at in the next turn.
      pending.catch(() => undefined);
      const step = text === '' ? await pending : await within(pending, closesAtMs - clock.monotonic(), clock);
      if (step === undefined || text.length >= maxLength) {
        yield text;
        text = '';
        closesAtMs = clock.monotonic() + windowMs;
        if (step === undefined) continue;
      }
      pending = undefined;
      if (step.done === true) {
        isDone = true;
        if (text !== '') yield text;
        return;
      }
      if (typeof step.value !== 'string') {
        if (text !== '') yield text;
        text = '';
        yield step.value;
      } else if (clock.monotonic() >= closesAtMs && text === '') {
        yield step.value;
        closesAtMs = clock.monotonic() + windowMs;
      } else text += step.value;
    }
  } catch (error) {
    isDone = true;
    // What was said before the source failed was said.
    if (text !== '') yield text;
    throw error;
  } finally {
    if (!isDone) void iterator.return?.();
  }
}

/** The step, or undefined when the time was over before. */
function within<T>(step: Promise<T>, ms: number, clock: Clock): Promise<T | undefined> {
  if (ms <= 0) return Promise.race([step, Promise.resolve(undefined)]);
  return new Promise((resolve, reject) => {
    const letGo = clock.after(ms, () => resolve(undefined));
    step.then(
      (value) => {
        letGo();
        resolve(value);
      },
      (error: unknown) => {
        letGo();
        reject(error);
      },
    );
  });
}
