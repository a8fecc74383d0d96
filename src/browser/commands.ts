import { EventWatcher } from './event-watcher.ts';
import { type RequestOptions, request } from './requests.ts';
import type { EventsOptions } from './watch-types.ts';

/** Where a command is in its life. States never go back and may be skipped; the last six are terminal. */
export type CommandState =
  | 'queued'
  | 'sent'
  | 'delivered'
  | 'started'
  | 'progress'
  | 'succeeded'
  | 'failed'
  | 'rejected'
  | 'cancelled'
  | 'expired'
  | 'unknown';

/** A typed value; `json` where the hub knows its type. */
export interface JsonPayload {
  readonly type: string;
  readonly base64: string;
  readonly json?: unknown;
}

/** One step in a command's life. */
export interface CommandUpdate {
  readonly commandId: string;
  readonly clientId: string;
  readonly state: CommandState;
  /** ISO 8601, by the hub's clock. */
  readonly at: string;
  readonly progress?: { readonly fraction?: number; readonly note?: string; readonly item?: JsonPayload };
  /** With `succeeded`. */
  readonly result?: JsonPayload;
  /** With the other terminal states. */
  readonly error?: { readonly code: string; readonly message: string };
}

export interface SendCommandOptions extends RequestOptions {
  clientId: string;
  /** A method of the device: `start`, `PumpService/Start`. Or give `type`. */
  method?: string;
  /** Full name of the message type, in the place of `method`. */
  type?: string;
  /** The message as JSON. Default: the empty message. */
  payload?: unknown;
  /** `fail` (default): the device has to be connected. `queue`: stored, and sent when the device comes. */
  whenOffline?: 'fail' | 'queue';
  /** A live command's whole life, in ms. Default: the hub's, 30,000. */
  timeoutMs?: number;
  /** How long a live command waits for its device to connect, in ms. Default: 0. */
  waitForConnectMs?: number;
  /** How long a queued command may wait to be sent, in ms. Default: the hub's, 24 hours. */
  ttlMs?: number;
  /** Two sends with one key are one command: with it, a send without an answer may be repeated. */
  idempotencyKey?: string;
  /** True when running it twice does no harm. Default: false. */
  idempotent?: boolean;
  /** Commands with one key run one after the other. */
  orderingKey?: string;
  /** A newer queued command with the same key replaces those not sent yet. */
  coalesceKey?: string;
}

export function isTerminal(state: CommandState): boolean {
  return ['succeeded', 'failed', 'rejected', 'cancelled', 'expired', 'unknown'].includes(state);
}

/**
 * Sends a command and waits: for the result of a live one, for the acceptance of a queued one. Throws a `HubProblem`:
 * `client-offline`, `command-failed`, `command-expired`..., and `network` when it is not known whether the hub has it.
 */
export function sendCommand(options: SendCommandOptions): Promise<CommandUpdate> {
  return post(options, undefined);
}

/**
 * Sends a command and tells every update, the terminal one last; a lost connection is made again and nothing is told
 * twice. Throws a `HubProblem` if the command is not accepted. Leaving the loop stops the watching, not the command.
 */
export async function* commandUpdates(
  options: SendCommandOptions & Pick<EventsOptions, 'onState' | 'backoff' | 'watchdogMs'>,
): AsyncGenerator<CommandUpdate, void> {
  const { commandId } = await post(options, 'accepted');
  const path = `/v1/commands/${encodeURIComponent(commandId)}/events`;
  for await (const item of new EventWatcher(path, options)) {
    if (item.kind !== 'event' || !item.event.type.startsWith('command.')) continue;
    const update = item.event.data as CommandUpdate;
    yield { ...update, at: update.at ?? item.event.at };
    if (isTerminal(update.state)) return;
  }
}

export interface CancelCommandOptions extends RequestOptions {
  commandId: string;
  /** For the device and the log. */
  reason?: string;
}

/** Asks for a command to be cancelled; a cancel may come too late. Gives the newest update at that moment. */
export function cancelCommand({ commandId, reason, ...options }: CancelCommandOptions): Promise<CommandUpdate> {
  const body = reason === undefined ? {} : { reason };
  return request('POST', `/v1/commands/${encodeURIComponent(commandId)}/cancel`, body, options);
}

function post(options: SendCommandOptions, wait: 'accepted' | undefined): Promise<CommandUpdate> {
  const { url, getToken, signal, fetch, clientId, ...rest } = options;
  const { method, type, payload, whenOffline, timeoutMs, waitForConnectMs, ttlMs } = rest;
  const { idempotencyKey, idempotent, orderingKey, coalesceKey } = rest;
  const order = { method, type, payload, whenOffline, timeoutMs, waitForConnectMs, ttlMs };
  const body = { ...order, idempotencyKey, idempotent, orderingKey, coalesceKey, wait };
  return request('POST', `/v1/clients/${encodeURIComponent(clientId)}/commands`, body, {
    ...(url !== undefined && { url }),
    ...(getToken !== undefined && { getToken }),
    ...(signal !== undefined && { signal }),
    ...(fetch !== undefined && { fetch }),
  });
}
