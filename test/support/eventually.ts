import { vi } from 'vitest';

/** Resolves with what `check` returns once it does not throw any more; throws its error after a minute, enough for a machine that is busy with something else. */
export function eventually<T>(check: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(check, { timeout: 60_000, interval: 20 });
}
