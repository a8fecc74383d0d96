import type { Clock } from './clock.ts';

/** Resolves to false when `work` did not end (well, and with anything but false) within `ms`. Never rejects. */
export function within(clock: Clock, work: Promise<unknown>, ms: number): Promise<boolean> {
  return new Promise((resolve) => {
    const letGo = clock.after(ms, () => resolve(false));
    work
      .then(
        (value) => value !== false,
        () => false,
      )
      .then((isDone) => {
        letGo();
        resolve(isDone);
      });
  });
}
