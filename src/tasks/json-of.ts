import { HubError } from '../errors.ts';

/** Largest event, in bytes of JSON. */
export const maxEventBytes = 2 ** 20;

/** As one line of JSON; `undefined` becomes `null`. Throws `invalid-argument` naming `what` if it is none, or too long. */
export function jsonOf(value: unknown, what: string, maxBytes: number): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(value) ?? 'null';
  } catch (error) {
    throw new HubError('invalid-argument', `${what} is no JSON: ${(error as Error).message}`, { cause: error });
  }
  const bytes = text.length * 3 > maxBytes ? Buffer.byteLength(text) : 0;
  if (bytes > maxBytes) throw new HubError('invalid-argument', `${what} has ${bytes} bytes, the limit is ${maxBytes}`);
  return text;
}
