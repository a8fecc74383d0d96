import { HubError } from '../errors.ts';
import type { NewEvent } from './event-log.ts';

/** Deepest nesting of data that comes from outside; bodies over HTTP have the same limit. */
const maxDepth = 64;
/** Longer text is kept as text: what it is parsed to can weigh twenty times as much. */
const longText = 1024;

/**
 * The data of an event as a device or a caller has sent it. Empty text is null. Throws `invalid-argument` for what is no
 * JSON, or is nested more than 64 levels deep.
 */
export function foreignData(json: string): Pick<NewEvent, 'data' | 'bytes'> {
  let data: unknown = null;
  try {
    if (json !== '') data = JSON.parse(json);
  } catch (error) {
    throw new HubError(
      'invalid-argument',
      `json is not JSON: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  if (isDeeper(data)) throw new HubError('invalid-argument', `json is nested more than ${maxDepth} levels deep`);
  return { data: json.length > longText ? () => JSON.parse(json) : data, bytes: json.length };
}

/** Level by level: recursion would fall over what is being looked for. */
function isDeeper(root: unknown): boolean {
  let level = [root];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > maxDepth) return true;
    level = level.flatMap((value) =>
      typeof value === 'object' && value !== null
        ? Object.values(value).filter((inner) => typeof inner === 'object')
        : [],
    );
  }
  return false;
}
