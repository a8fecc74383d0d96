import { z } from 'zod';
import type { LogEvent } from '../events/event-log.ts';
import type { ClientInfo } from '../hub/client-info.ts';
import type { CommandRecord, CommandUpdate, Payload } from '../protocol/command.ts';
import type { PayloadJson } from '../schemas/payload-json.ts';

/** How the gateway shows things as JSON; also what `/openapi.json` says of them. */
export const payloadView = z.object({
  type: z.string().describe('Full name of the message type'),
  base64: z.string(),
  json: z.unknown().optional().describe('The same as JSON, where the gateway knows the type'),
});

export const updateView = z.object({
  commandId: z.string(),
  clientId: z.string(),
  state: z
    .enum([
      'queued',
      'sent',
      'delivered',
      'started',
      'progress',
      'succeeded',
      'failed',
      'rejected',
      'cancelled',
      'expired',
      'unknown',
    ])
    .describe('States never go back and may be skipped; the last six are terminal'),
  at: z.string().describe('ISO 8601, by the clock of the hub'),
  progress: z
    .object({
      fraction: z.number().optional().describe('Part done, 0 to 1'),
      note: z.string().optional(),
      item: payloadView.optional(),
    })
    .optional(),
  result: payloadView.optional(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
});

export const recordView = updateView.extend({
  type: z.string().describe('Type of the payload'),
  whenOffline: z.enum(['fail', 'queue']),
  acceptedAt: z.string(),
});

export const clientView = z.object({
  id: z.string(),
  connected: z.boolean(),
  labels: z.record(z.string(), z.string()),
  epoch: z.number().describe('Of the newest session; 0 for a client that only has a mailbox'),
  connectedAt: z.string().optional(),
  lastSeenAt: z.string().optional(),
  roundTripMs: z.number().optional(),
  pendingCommands: z.number(),
  node: z.string(),
  agent: z.string(),
  peer: z.string(),
});

export function showUpdate(update: CommandUpdate, types: PayloadJson | undefined): z.infer<typeof updateView> {
  const base = {
    commandId: update.commandId,
    clientId: update.clientId,
    state: update.state,
    at: iso(update.atMs),
  };
  switch (update.state) {
    case 'queued':
    case 'sent':
    case 'delivered':
    case 'started':
      return base;
    case 'progress': {
      const { fraction, note, item } = update.progress;
      return { ...base, progress: { fraction, note, item: item && showPayload(item, types) } };
    }
    case 'succeeded':
      return { ...base, result: showPayload(update.result, types) };
    default:
      return { ...base, error: update.error };
  }
}

export function showRecord(record: CommandRecord, types: PayloadJson | undefined): z.infer<typeof recordView> {
  const { command, acceptedAtMs, last } = record;
  return {
    ...showUpdate(last, types),
    type: command.payload.type,
    whenOffline: command.whenOffline,
    acceptedAt: iso(acceptedAtMs),
  };
}

export function showClient(client: ClientInfo): z.infer<typeof clientView> {
  const { id, connected, labels, epoch, roundTripMs, pendingCommands, node, agent, peer } = client;
  const connectedAt = client.connectedAtMs === undefined ? undefined : iso(client.connectedAtMs);
  const lastSeenAt = client.lastSeenAtMs === undefined ? undefined : iso(client.lastSeenAtMs);
  return { id, connected, labels, epoch, connectedAt, lastSeenAt, roundTripMs, pendingCommands, node, agent, peer };
}

/** The JSON of an event as watchers see it: payloads in command events also as JSON, where their type is known. */
export function eventJsonWith(types: PayloadJson): (event: LogEvent) => string {
  return (event) => {
    const json = event.json();
    if (event.type !== 'command.succeeded' && event.type !== 'command.progress') return json;
    const shown = JSON.parse(json) as { data?: { result?: ShownPayload; progress?: { item?: ShownPayload } } };
    const payload = shown.data?.result ?? shown.data?.progress?.item;
    if (payload === undefined) return json;
    payload.json = types.decode({ type: payload.type, value: Buffer.from(payload.base64, 'base64') });
    return JSON.stringify(shown);
  };
}

interface ShownPayload {
  readonly type: string;
  readonly base64: string;
  json?: unknown;
}

function showPayload(payload: Payload, types: PayloadJson | undefined): z.infer<typeof payloadView> {
  const base64 = Buffer.from(payload.value).toString('base64');
  const json = types?.decode(payload);
  return json === undefined ? { type: payload.type, base64 } : { type: payload.type, base64, json };
}

function iso(unixMs: number): string {
  return new Date(unixMs).toISOString();
}
