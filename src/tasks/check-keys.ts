import { HubError } from '../errors.ts';

/** Throws `invalid-argument` unless `given` is an object, and for a key of it that is not known. */
export function checkKeys(what: string, given: unknown, known: readonly string[]): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new HubError(
      'invalid-argument',
      `${what} is ${shown(given)}, it has to be an object with: ${known.join(', ')}`,
    );
  for (const key of Object.keys(given))
    if (!known.includes(key))
      throw new HubError(
        'invalid-argument',
        `${what} has no option "${key.slice(0, 64)}", there are: ${known.join(', ')}`,
      );
}

/** A value as an error message names it. */
export function shown(value: unknown): string {
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? 'an array' : 'an object';
  if (typeof value === 'function') return 'a function';
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 100)) : String(value);
}
