import type { Payload } from './command.ts';

/** Whether two payloads have the same type and bytes. */
export function samePayload(a: Payload, b: Payload): boolean {
  return a.type === b.type && a.value.length === b.value.length && Buffer.compare(a.value, b.value) === 0;
}
