import { HubError } from '../errors.ts';
import { type CommandUpdate, isTerminalUpdate, type Payload } from '../protocol/command.ts';
import type { PayloadJson } from '../schemas/index.ts';
import { printable } from '../server/printable.ts';
import { type ExitCode, exitCodeOfState, exitCodes } from './exit-codes.ts';
import type { Colour, Terminal } from './terminal.ts';

/** Prints one update: `{commandId, clientId, state, at, ...}` with `--json`, a line for people otherwise. */
export function tellUpdate(terminal: Terminal, update: CommandUpdate, schemas: PayloadJson): void {
  terminal.tell(updateJson(update, schemas), updateLine(terminal, update, schemas));
}

/** The update with its payloads as JSON where their types are known, else as base64. */
export function updateJson(update: CommandUpdate, schemas: PayloadJson): object {
  const { commandId, clientId, state, atMs } = update;
  const base = { commandId, clientId, state, at: new Date(atMs).toISOString() };
  if (update.state === 'progress') {
    const { fraction, note, item } = update.progress;
    return { ...base, progress: { fraction, note, item: item && payloadJson(item, schemas) } };
  }
  if (update.state === 'succeeded') return { ...base, result: payloadJson(update.result, schemas) };
  return isTerminalUpdate(update) ? { ...base, error: update.error } : base;
}

/** A payload as JSON, or `{type, base64}` when its type is not known; null for none, as at the end of a streaming method. */
export function payloadJson(payload: Payload, schemas: PayloadJson): unknown {
  if (payload.type === '' && payload.value.length === 0) return null;
  return schemas.decode(payload) ?? { type: payload.type, base64: Buffer.from(payload.value).toString('base64') };
}

/** Tells every update and resolves to the exit code of the end. */
export async function followUpdates(
  terminal: Terminal,
  updates: AsyncIterable<CommandUpdate>,
  schemas: PayloadJson,
  onUpdate: (update: CommandUpdate) => Promise<ExitCode | undefined> = async () => undefined,
): Promise<ExitCode> {
  for await (const update of updates) {
    tellUpdate(terminal, update, schemas);
    if (isTerminalUpdate(update)) return exitCodeOfEnd(update);
    const code = await onUpdate(update);
    if (code !== undefined) return code;
  }
  throw new HubError('unavailable', 'the hub ended the stream before the command ended');
}

/** The exit code that a terminal update means. A client that was away all the time is `clientOffline`. */
export function exitCodeOfEnd(update: Extract<CommandUpdate, { error: unknown }> | CommandUpdate): ExitCode {
  if (!isTerminalUpdate(update)) return exitCodes.ok;
  if (update.state !== 'succeeded' && update.error.code === 'client-offline') return exitCodes.clientOffline;
  if (update.state !== 'succeeded' && update.error.code === 'timed-out') return exitCodes.timedOut;
  return exitCodeOfState(update.state);
}

const colours: Partial<Record<CommandUpdate['state'], Colour>> = {
  succeeded: 'green',
  failed: 'red',
  rejected: 'red',
  cancelled: 'yellow',
  expired: 'yellow',
  unknown: 'yellow',
};

function updateLine(terminal: Terminal, update: CommandUpdate, schemas: PayloadJson): string {
  const { state, atMs } = update;
  const time = terminal.paint('grey', new Date(atMs).toISOString().slice(11, 23));
  const word = state.padEnd(9);
  const colour = colours[state];
  const head = `${time}  ${colour === undefined ? word : terminal.paint(colour, word)}`;
  const rest = details(update, schemas);
  return rest === '' ? head.trimEnd() : `${head}  ${rest}`;
}

function details(update: CommandUpdate, schemas: PayloadJson): string {
  if (update.state === 'queued') return `${update.commandId} for ${update.clientId}`;
  if (update.state === 'succeeded') return shown(payloadJson(update.result, schemas));
  if (update.state === 'progress') {
    const { fraction, note, item } = update.progress;
    const parts = [
      fraction === undefined ? '' : `${Math.round(fraction * 100)} %`,
      note === undefined ? '' : printable(note),
      item === undefined ? '' : shown(payloadJson(item, schemas)),
    ];
    return parts.filter((part) => part !== '').join('  ');
  }
  return isTerminalUpdate(update) ? printable(`${update.error.code}: ${update.error.message}`) : '';
}

/** What `payloadJson` made, as text for people. */
export const shown = (value: unknown): string => (value === null ? '' : printable(JSON.stringify(value)));
