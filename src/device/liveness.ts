import type { Clock } from '../flow/clock.ts';

/**
 * Calls `onSilent` once nothing was heard for `silenceMs`; `heardAt` tells when something was, by the monotonic clock.
 * Returns the release.
 */
export function watchLiveness(
  clock: Clock,
  silenceMs: number,
  heardAt: () => number,
  onSilent: () => void,
): () => void {
  let isOver = false;
  let letGo = (): void => undefined;
  const silence = (): number => clock.monotonic() - heardAt();
  const wait = (): void => {
    letGo = clock.after(Math.max(1, silenceMs - silence()), () => {
      // Perhaps it was us who slept: what has come meanwhile is read before we judge.
      if (silence() >= silenceMs) setImmediate(judge);
      else wait();
    });
  };
  const judge = (): void => {
    if (isOver) return;
    if (silence() >= silenceMs) onSilent();
    else wait();
  };
  wait();
  return () => {
    isOver = true;
    letGo();
  };
}
