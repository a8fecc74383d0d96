import type { AddOptions } from '../hub/command-store.ts';
import type { Command, TerminalUpdate } from '../protocol/command.ts';

// Commands and their ends on their way to the store's thread, as lists of plain values: those are copied between
// threads at a third of what objects with named fields cost, and bytes as text at a tenth of what a buffer costs.

/** Bytes as Latin-1 text, or as they are where there are many. */
export type Bytes = string | Uint8Array;

export type CommandValues = readonly [
  id: string,
  tenant: string,
  clientId: string,
  payloadType: string,
  payload: Bytes,
  whenOffline: Command['whenOffline'],
  timeoutMs: number,
  waitForConnectMs: number,
  ttlMs: number,
  idempotent: number,
  idempotencyKey: string | null,
  orderingKey: string | null,
  coalesceKey: string | null,
  traceparent: string | null,
];

export type AddValues = readonly [
  nowMs: number,
  dueAtMs: number,
  sentToJournal: string | null,
  maxCommands: number,
  maxBytes: number,
  supersede: AddOptions['supersede'] | null,
];

/** `type` and `result` of one that succeeded, `code` and `message` of another. */
export type EndValues = readonly [
  commandId: string,
  state: TerminalUpdate['state'],
  atMs: number,
  typeOrCode: string,
  resultOrMessage: Bytes,
];

const mostAsText = 4096;

export function textOf(bytes: Uint8Array): Bytes {
  if (bytes.byteLength <= mostAsText)
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
  // A view of a larger buffer would be sent with all of the buffer.
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
}

export function bytesOf(bytes: Bytes): Uint8Array {
  return typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
}

export function commandValues(command: Command): CommandValues {
  return [
    command.id,
    command.tenant,
    command.clientId,
    command.payload.type,
    textOf(command.payload.value),
    command.whenOffline,
    command.timeoutMs,
    command.waitForConnectMs,
    command.ttlMs,
    command.idempotent ? 1 : 0,
    command.idempotencyKey || null,
    command.orderingKey ?? null,
    command.coalesceKey ?? null,
    command.traceparent ?? null,
  ];
}

/** What `commandValues` has made values of. */
export function commandOf(values: CommandValues): Command {
  const [id, tenant, clientId, type, payload, whenOffline, timeoutMs, waitForConnectMs, ttlMs, idempotent] = values;
  const [idempotencyKey, orderingKey, coalesceKey, traceparent] = values.slice(10) as (string | null)[];
  return {
    id,
    tenant,
    clientId,
    payload: { type, value: bytesOf(payload) },
    whenOffline,
    timeoutMs,
    waitForConnectMs,
    ttlMs,
    idempotent: idempotent === 1,
    idempotencyKey: idempotencyKey ?? undefined,
    orderingKey: orderingKey ?? undefined,
    coalesceKey: coalesceKey ?? undefined,
    traceparent: traceparent ?? undefined,
  };
}

export function addValues(options: AddOptions): AddValues {
  const { nowMs, dueAtMs, sentToJournal, maxCommands, maxBytes, supersede } = options;
  return [nowMs, dueAtMs, sentToJournal ?? null, maxCommands, maxBytes, supersede ?? null];
}

export function endValues(update: TerminalUpdate): EndValues {
  const { commandId, state, atMs } = update;
  if (state === 'succeeded') return [commandId, state, atMs, update.result.type, textOf(update.result.value)];
  return [commandId, state, atMs, update.error.code, update.error.message];
}
