import { HubError, type HubErrorCode } from '../errors.ts';
import type { CommandUpdate, TerminalState, TerminalUpdate } from '../protocol/command.ts';

/** A terminal state other than `succeeded`, as the code that callers branch on. */
export const codeOfState = {
  failed: 'command-failed',
  rejected: 'command-rejected',
  cancelled: 'command-cancelled',
  expired: 'command-expired',
  unknown: 'outcome-unknown',
} as const satisfies Record<Exclude<TerminalState, 'succeeded'>, HubErrorCode>;

/** The error that a command's unhappy end is to its caller. */
export function errorOf(update: Exclude<TerminalUpdate, { state: 'succeeded' }>): HubError {
  const { code, message } = update.error;
  const text = message === '' ? code : message;
  return new HubError(
    codeOfState[update.state],
    `command ${update.commandId} to client ${update.clientId} ${said[update.state]}: ${text}`,
    { commandId: update.commandId, deviceCode: code },
  );
}

const said = {
  failed: 'failed',
  rejected: 'was rejected',
  cancelled: 'was cancelled',
  expired: 'expired',
  unknown: 'has an unknown outcome',
} as const;

/** True once the device has acknowledged the command. A result of the device says so too, as states may be skipped. */
export function isDelivered(update: CommandUpdate): boolean {
  switch (update.state) {
    case 'queued':
    case 'sent':
    case 'cancelled':
    case 'expired':
    case 'unknown':
      return false;
    default:
      return true;
  }
}
