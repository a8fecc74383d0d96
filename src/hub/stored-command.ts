import { type Command, type CommandState, isTerminal, type TerminalUpdate } from '../protocol/command.ts';
import type { AddOptions } from './command-store.ts';

// The rules that every command store holds to, whatever it keeps commands in.

const order: Partial<Record<CommandState, number>> = { queued: 0, sent: 1, delivered: 2, started: 3, progress: 4 };

/** True when a command may go on from one state to another: never back, and never out of a terminal one. */
export function isStateAhead(from: CommandState, to: CommandState): boolean {
  if (isTerminal(from)) return false;
  return isTerminal(to) || order[to]! > order[from]!;
}

/** True when a repeated send asks for the same: same client, same type, same bytes. */
export function isSameContent(a: Command, b: Command): boolean {
  return (
    a.tenant === b.tenant &&
    a.clientId === b.clientId &&
    a.payload.type === b.payload.type &&
    Buffer.compare(a.payload.value, b.payload.value) === 0
  );
}

/** Says why `command` cannot be taken. Tells nothing of a command of another tenant. */
export function takenMessage(command: Command, known: Command): string {
  if (command.id === known.id) return `command id ${command.id} is taken by another command`;
  return `idempotency key "${command.idempotencyKey}" of client ${command.clientId} is taken by command ${known.id}, which has other content`;
}

/** `commands` and `bytes`: what waits now, and what the mailbox would hold with this command. */
export function mailboxFull(
  command: Command,
  commands: number,
  bytes: number,
  limits: Pick<AddOptions, 'maxCommands' | 'maxBytes'>,
): string {
  return `mailbox of client ${command.clientId} is full: ${commands} commands wait (limit ${limits.maxCommands}), ${bytes} bytes with this one (limit ${limits.maxBytes})`;
}

/** The end of a command that a newer one with the same coalesce key replaces. */
export function supersededBy(old: Command, by: Command, atMs: number): TerminalUpdate {
  return {
    commandId: old.id,
    clientId: old.clientId,
    atMs,
    state: 'cancelled',
    error: { code: 'superseded', message: `replaced by command ${by.id}` },
  };
}
