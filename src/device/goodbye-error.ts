import { HubError, type HubErrorCode } from '../errors.ts';
import { GoodbyeReason } from '../protocol/gen/signalbox/v1/device.ts';

/** A hub's goodbye as an error. */
export function goodbyeError(reason: number, message: string): HubError {
  const { code, word } = goodbyes[reason] ?? { code: 'unavailable', word: `reason ${reason}` };
  return new HubError(code, `the hub said goodbye (${word})${message ? `: ${message}` : ''}`);
}

const goodbyes: Readonly<Record<number, { code: HubErrorCode; word: string }>> = {
  [GoodbyeReason.GOODBYE_REASON_UNSPECIFIED]: { code: 'unavailable', word: 'no reason given' },
  [GoodbyeReason.GOODBYE_REASON_DISCONNECTED]: { code: 'unavailable', word: 'disconnected' },
  [GoodbyeReason.GOODBYE_REASON_TAKEN_OVER]: { code: 'unavailable', word: 'taken over by a newer stream' },
  [GoodbyeReason.GOODBYE_REASON_DRAINING]: { code: 'unavailable', word: 'draining' },
  [GoodbyeReason.GOODBYE_REASON_PROTOCOL_ERROR]: { code: 'invalid-argument', word: 'protocol error' },
  [GoodbyeReason.GOODBYE_REASON_UNAUTHENTICATED]: { code: 'unauthenticated', word: 'unauthenticated' },
  [GoodbyeReason.GOODBYE_REASON_SLOW_CONSUMER]: { code: 'resource-exhausted', word: 'slow consumer' },
  [GoodbyeReason.GOODBYE_REASON_LIVENESS]: { code: 'unavailable', word: 'nothing was heard of us' },
  [GoodbyeReason.GOODBYE_REASON_PERMISSION_DENIED]: { code: 'permission-denied', word: 'permission denied' },
  [GoodbyeReason.GOODBYE_REASON_OVERLOADED]: { code: 'resource-exhausted', word: 'overloaded' },
};
