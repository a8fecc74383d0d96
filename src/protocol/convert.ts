import { HubError } from '../errors.ts';
import { keptBytes } from '../flow/kept-bytes.ts';
import {
  type Command,
  type CommandError,
  type CommandRecord,
  type CommandState,
  type CommandUpdate,
  isTerminal,
  type Payload,
  type Progress,
  type TerminalState,
} from './command.ts';
import type * as wire from './gen/signalbox/v1/command.ts';
import { CommandState as WireState, WhenOffline as WireWhenOffline } from './gen/signalbox/v1/command.ts';

// The one place where our words (command.ts) and the generated messages meet. What comes from the wire is checked for
// its shape here (a missing payload, an enum value nobody knows); limits of length and range are the receiver's.

const stateToWire = {
  queued: WireState.COMMAND_STATE_QUEUED,
  sent: WireState.COMMAND_STATE_SENT,
  delivered: WireState.COMMAND_STATE_DELIVERED,
  started: WireState.COMMAND_STATE_STARTED,
  progress: WireState.COMMAND_STATE_PROGRESS,
  succeeded: WireState.COMMAND_STATE_SUCCEEDED,
  failed: WireState.COMMAND_STATE_FAILED,
  rejected: WireState.COMMAND_STATE_REJECTED,
  cancelled: WireState.COMMAND_STATE_CANCELLED,
  expired: WireState.COMMAND_STATE_EXPIRED,
  unknown: WireState.COMMAND_STATE_UNKNOWN,
} as const satisfies Record<CommandState, wire.CommandState>;

// Complete by construction: every known wire value has one of our words, and the compiler misses none.
const stateFromWire: {
  readonly [S in Exclude<
    wire.CommandState,
    WireState.COMMAND_STATE_UNSPECIFIED | WireState.UNRECOGNIZED
  >]: CommandState;
} = {
  1: 'queued',
  2: 'sent',
  3: 'delivered',
  4: 'started',
  5: 'progress',
  6: 'succeeded',
  7: 'failed',
  8: 'rejected',
  9: 'cancelled',
  10: 'expired',
  11: 'unknown',
};

export function stateToProto(state: CommandState): wire.CommandState {
  return stateToWire[state];
}

/** Throws `invalid-argument` on a value that this version does not know. */
export function stateFromProto(state: number): CommandState {
  const known = (stateFromWire as Readonly<Record<number, CommandState | undefined>>)[state];
  if (known === undefined) throw new HubError('invalid-argument', `command state ${state} is not known`);
  return known;
}

/** As `stateFromProto`, for places where only an end makes sense (a device's result). */
export function terminalStateFromProto(state: number): TerminalState {
  const known = stateFromProto(state);
  if (!isTerminal(known)) throw new HubError('invalid-argument', `command state "${known}" is not terminal`);
  return known;
}

export function whenOfflineToProto(policy: Command['whenOffline']): wire.WhenOffline {
  switch (policy) {
    case 'fail':
      return WireWhenOffline.WHEN_OFFLINE_FAIL;
    case 'queue':
      return WireWhenOffline.WHEN_OFFLINE_QUEUE;
    default:
      return policy satisfies never;
  }
}

/** Unspecified is the hub's default: `fail`. Throws `invalid-argument` on a value that this version does not know. */
export function whenOfflineFromProto(policy: number): Command['whenOffline'] {
  switch (policy) {
    case WireWhenOffline.WHEN_OFFLINE_UNSPECIFIED:
    case WireWhenOffline.WHEN_OFFLINE_FAIL:
      return 'fail';
    case WireWhenOffline.WHEN_OFFLINE_QUEUE:
      return 'queue';
    default:
      throw new HubError('invalid-argument', `when_offline ${policy} is not known`);
  }
}

export function payloadToProto(payload: Payload): wire.Payload {
  return { type: payload.type, value: payload.value };
}

/** A payload that may be kept. An absent one is one without type and bytes, as an empty message is not written on the wire. */
export function payloadFromProto(payload: wire.Payload | undefined): Payload {
  return payload === undefined
    ? { type: '', value: new Uint8Array() }
    : { type: payload.type, value: keptBytes(payload.value) };
}

export function progressToProto(progress: Progress): wire.Progress {
  return {
    fraction: progress.fraction,
    note: progress.note ?? '',
    item: progress.item && payloadToProto(progress.item),
    itemNumber: progress.itemNumber ?? 0,
  };
}

/** An absent progress says nothing but that the command runs. */
export function progressFromProto(progress: wire.Progress | undefined): Progress {
  if (progress === undefined) return {};
  return {
    ...(progress.fraction !== undefined && { fraction: progress.fraction }),
    ...(progress.note !== '' && { note: progress.note }),
    ...(progress.item !== undefined && { item: payloadFromProto(progress.item) }),
    ...(progress.itemNumber !== 0 && { itemNumber: progress.itemNumber }),
  };
}

export function errorToProto(error: CommandError): wire.CommandError {
  return { code: error.code, message: error.message };
}

/** An absent error has the code `unspecified`: whoever ended the command did not say why. */
export function errorFromProto(error: wire.CommandError | undefined): CommandError {
  return { code: error?.code || 'unspecified', message: error?.message ?? '' };
}

/** The tenant stays behind: it comes from the credential, never from a message. 0 asks for the hub's default. */
export function commandToProto(command: Command): wire.Command {
  return {
    id: command.id,
    clientId: command.clientId,
    payload: payloadToProto(command.payload),
    whenOffline: whenOfflineToProto(command.whenOffline),
    timeoutMs: command.timeoutMs,
    waitForConnectMs: command.waitForConnectMs,
    ttlMs: command.ttlMs,
    idempotencyKey: command.idempotencyKey ?? '',
    idempotent: command.idempotent,
    orderingKey: command.orderingKey ?? '',
    coalesceKey: command.coalesceKey ?? '',
    traceparent: command.traceparent ?? '',
  };
}

/** Throws `invalid-argument` where the payload is missing or the policy is not known. */
export function commandFromProto(command: wire.Command, tenant: string): Command {
  if (command.payload === undefined) throw new HubError('invalid-argument', 'command.payload is missing');
  return {
    id: command.id,
    tenant,
    clientId: command.clientId,
    payload: payloadFromProto(command.payload),
    whenOffline: whenOfflineFromProto(command.whenOffline),
    timeoutMs: command.timeoutMs,
    waitForConnectMs: command.waitForConnectMs,
    ttlMs: command.ttlMs,
    idempotent: command.idempotent,
    ...(command.idempotencyKey !== '' && { idempotencyKey: command.idempotencyKey }),
    ...(command.orderingKey !== '' && { orderingKey: command.orderingKey }),
    ...(command.coalesceKey !== '' && { coalesceKey: command.coalesceKey }),
    ...(command.traceparent !== '' && { traceparent: command.traceparent }),
  };
}

export function updateToProto(update: CommandUpdate): wire.CommandUpdate {
  const message: wire.CommandUpdate = {
    commandId: update.commandId,
    clientId: update.clientId,
    state: stateToProto(update.state),
    atMs: update.atMs,
    progress: undefined,
    result: undefined,
    error: undefined,
  };
  switch (update.state) {
    case 'queued':
    case 'sent':
    case 'delivered':
    case 'started':
      return message;
    case 'progress':
      return { ...message, progress: progressToProto(update.progress) };
    case 'succeeded':
      return { ...message, result: payloadToProto(update.result) };
    case 'failed':
    case 'rejected':
    case 'cancelled':
    case 'expired':
    case 'unknown':
      return { ...message, error: errorToProto(update.error) };
    default:
      return update satisfies never;
  }
}

/** Throws `invalid-argument` on an update that is missing, or whose state this version does not know. */
export function updateFromProto(message: wire.CommandUpdate | undefined): CommandUpdate {
  if (message === undefined) throw new HubError('invalid-argument', 'update is missing');
  const base = { commandId: message.commandId, clientId: message.clientId, atMs: message.atMs };
  const state = stateFromProto(message.state);
  switch (state) {
    case 'queued':
    case 'sent':
    case 'delivered':
    case 'started':
      return { ...base, state };
    case 'progress':
      return { ...base, state, progress: progressFromProto(message.progress) };
    case 'succeeded':
      return { ...base, state, result: payloadFromProto(message.result) };
    case 'failed':
    case 'rejected':
    case 'cancelled':
    case 'expired':
    case 'unknown':
      return { ...base, state, error: errorFromProto(message.error) };
    default:
      return state satisfies never;
  }
}

export function recordToProto(record: CommandRecord): wire.CommandRecord {
  return {
    id: record.command.id,
    clientId: record.command.clientId,
    type: record.command.payload.type,
    last: updateToProto(record.last),
    acceptedAtMs: record.acceptedAtMs,
    whenOffline: whenOfflineToProto(record.command.whenOffline),
  };
}
