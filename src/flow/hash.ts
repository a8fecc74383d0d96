import { randomInt } from 'node:crypto';

// Others choose many of the texts: which of them share a hash is not for them to know.
const factor = randomInt(2 ** 30) * 2 + 1;

/** A 32-bit hash, another one in each process. */
export function hashOf(text: string): number {
  const { length } = text;
  // Two at a time: one would wait for the other.
  let even = factor;
  let odd = length;
  for (let i = 1; i < length; i += 2) {
    even = Math.imul(even ^ text.charCodeAt(i - 1), factor);
    odd = Math.imul(odd ^ text.charCodeAt(i), factor);
  }
  if ((length & 1) === 1) even = Math.imul(even ^ text.charCodeAt(length - 1), factor);
  const hash = Math.imul(even ^ (odd >>> 15), factor) ^ odd;
  return hash ^ (hash >>> 15);
}
