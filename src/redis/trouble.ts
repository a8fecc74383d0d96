import { HubError } from '../errors.ts';

/** What an error of Redis, or of the way to it, means for whoever wanted something. */
export interface Trouble {
  /** `passing`: may be gone in a moment, so the same call is made again. `lasting`: it is not. `fault`: the call itself is wrong. */
  readonly kind: 'passing' | 'lasting' | 'fault';
  /** The connection leads to the wrong place: it has to be made anew. */
  readonly isMisled?: boolean;
  readonly error: HubError;
}

const retryAfterMs = 1000;

/** Reads an error as ioredis throws it. */
export function troubleOf(cause: unknown): Trouble {
  if (cause instanceof HubError) return { kind: cause.code === 'unavailable' ? 'lasting' : 'fault', error: cause };
  const message = cause instanceof Error ? cause.message : String(cause);
  const unavailable = (what: string) => new HubError('unavailable', `Redis ${what}`, { cause, retryAfterMs });
  switch (/^[A-Z]+/.exec(message)?.[0]) {
    case 'LOADING':
      return { kind: 'passing', error: unavailable('is loading what it keeps') };
    case 'READONLY':
      return { kind: 'passing', isMisled: true, error: unavailable('is a replica, which takes no writes (READONLY)') };
    case 'BUSY':
      return { kind: 'passing', error: unavailable('is busy with a script') };
    case 'CLUSTERDOWN':
    case 'TRYAGAIN':
    case 'MASTERDOWN':
      return { kind: 'passing', error: unavailable(`is not complete: ${message}`) };
    case 'OOM':
      return { kind: 'lasting', error: unavailable('is full: what it keeps has reached maxmemory') };
    case 'MISCONF':
      return { kind: 'lasting', error: unavailable(`cannot write to its disk: ${message}`) };
    case 'NOREPLICAS':
      return { kind: 'lasting', error: unavailable('has too few replicas to take writes (min-replicas-to-write)') };
    case 'NOAUTH':
    case 'WRONGPASS':
    case 'NOPERM':
      return { kind: 'lasting', error: unavailable(`does not let us: ${message}`) };
    case 'WRONGTYPE':
      return {
        kind: 'fault',
        error: new HubError('internal', `Redis keeps something else under one of our keys: ${message}`, { cause }),
      };
    case 'ERR':
      return { kind: 'fault', error: new HubError('internal', `Redis refused a command: ${message}`, { cause }) };
    default:
      // Refused, reset, closed, timed out: the call may have been made or not.
      return { kind: 'passing', error: unavailable(`cannot be reached: ${message || 'the connection broke'}`) };
  }
}

/** True for the answer to a script that the server does not know. */
export function isUnknownScript(cause: unknown): boolean {
  return cause instanceof Error && cause.message.startsWith('NOSCRIPT');
}
