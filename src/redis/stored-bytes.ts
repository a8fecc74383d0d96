import { HubError } from '../errors.ts';
import type { CommandOwner, StoredCommand } from '../hub/command-store.ts';
import { type Command, type CommandUpdate, isTerminal, type TerminalUpdate } from '../protocol/command.ts';
import {
  commandFromProto,
  commandToProto,
  stateFromProto,
  updateFromProto,
  updateToProto,
} from '../protocol/convert.ts';
import * as wire from '../protocol/gen/signalbox/v1/command.ts';
import { stateLayout } from './command-script.ts';

// A stored command in bytes: what it asks for as it is on the wire, what became of it as the script packs it.

export function commandBytes(command: Command): Buffer {
  return buffer(wire.Command.encode(commandToProto(command)).finish());
}

/** What an end tells beyond its state and time: result or error. Names no command: several may end alike. */
export function endBytes(update: TerminalUpdate): Buffer {
  const { result, error } = updateToProto(update);
  const end: wire.CommandUpdate = {
    commandId: '',
    clientId: '',
    state: 0,
    atMs: 0,
    progress: undefined,
    result,
    error,
  };
  return buffer(wire.CommandUpdate.encode(end).finish());
}

export function storedFrom(owner: CommandOwner, command: Buffer, state: Buffer): StoredCommand {
  const message = wire.Command.decode(command);
  return storedWith(commandFromProto({ ...message, payload: owned(message.payload) }, owner.tenant), state);
}

export function storedWith(command: Command, state: Buffer): StoredCommand {
  const journal = textAt(state, stateLayout.journal);
  return {
    command,
    position: state.readDoubleBE(stateLayout.position),
    acceptedAtMs: state.readDoubleBE(stateLayout.acceptedAtMs),
    dueAtMs: state.readDoubleBE(stateLayout.dueAtMs),
    sentToJournal: journal.text === '' ? undefined : journal.text,
    last: updateFrom(command.id, command.clientId, state, journal.next),
  };
}

/** The end that a packed state tells of. */
export function endFrom(commandId: string, clientId: string, state: Buffer): TerminalUpdate {
  const update = updateFrom(commandId, clientId, state, textAt(state, stateLayout.journal).next);
  if (isTerminal(update.state)) return update as TerminalUpdate;
  throw new HubError('internal', `what Redis keeps of command ${commandId} is no end: ${update.state}`);
}

function updateFrom(commandId: string, clientId: string, state: Buffer, afterJournal: number): CommandUpdate {
  const coalesce = textAt(state, afterJournal);
  const idempotency = textAt(state, coalesce.next);
  const tail = state.subarray(idempotency.next);
  const code: wire.CommandState = state[stateLayout.code]! as wire.CommandState;
  const { result, error } = tail.length > 0 ? wire.CommandUpdate.decode(tail) : { result: undefined, error: undefined };
  const atMs = state.readDoubleBE(stateLayout.atMs);
  if (!isTerminal(stateFromProto(code))) return updateFromProto({ ...empty, commandId, clientId, state: code, atMs });
  return updateFromProto({ ...empty, commandId, clientId, state: code, atMs, result: owned(result), error });
}

const empty = { progress: undefined, result: undefined, error: undefined };

function textAt(state: Buffer, at: number): { text: string; next: number } {
  const next = at + 2 + state.readUInt16BE(at);
  return { text: state.toString('utf8', at + 2, next), next };
}

/** Bytes of their own: a view would keep all of the answer in memory that it came with. */
function owned(payload: wire.Payload | undefined): wire.Payload | undefined {
  return payload && { type: payload.type, value: new Uint8Array(payload.value) };
}

function buffer({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
