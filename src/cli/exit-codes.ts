import { type HubError, type HubErrorCode, toHubError } from '../errors.ts';
import type { TerminalState } from '../protocol/command.ts';

/** What the `signalbox` command ends with. Part of its contract: scripts branch on it. */
export const exitCodes = {
  ok: 0,
  /** It was tried and failed, was rejected or cancelled, or the hub could not be reached. */
  failed: 1,
  /** The command line, a payload or an option is wrong; nothing was done. */
  usage: 2,
  clientOffline: 3,
  /** Timed out, expired, or it is not known what became of it. */
  timedOut: 4,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

export const exitCodeHelp = 'Exit codes: 0 ok, 1 failed, 2 usage, 3 client offline, 4 timed out or outcome unknown.';

const byError: Partial<Record<HubErrorCode, ExitCode>> = {
  'invalid-argument': exitCodes.usage,
  'client-offline': exitCodes.clientOffline,
  'deadline-exceeded': exitCodes.timedOut,
  'command-expired': exitCodes.timedOut,
  'outcome-unknown': exitCodes.timedOut,
};

const byState: Record<TerminalState, ExitCode> = {
  succeeded: exitCodes.ok,
  failed: exitCodes.failed,
  rejected: exitCodes.failed,
  cancelled: exitCodes.failed,
  expired: exitCodes.timedOut,
  unknown: exitCodes.timedOut,
};

export const exitCodeOfState = (state: TerminalState): ExitCode => byState[state];

export function exitCodeOfError(error: unknown): ExitCode {
  const { code }: HubError = toHubError(error);
  return byError[code] ?? exitCodes.failed;
}
