import type { StoredCommand } from '../hub/command-store.ts';
import type { CommandState, CommandUpdate } from '../protocol/command.ts';

/** A queued command as it is in the database. */
export interface CommandRow {
  position: number;
  id: string;
  tenant: string;
  client_id: string;
  payload_type: string;
  payload: Uint8Array;
  when_offline: 'fail' | 'queue';
  timeout_ms: number;
  wait_for_connect_ms: number;
  ttl_ms: number;
  idempotent: number;
  idempotency_key: string | null;
  ordering_key: string | null;
  coalesce_key: string | null;
  traceparent: string | null;
  accepted_at_ms: number;
  due_at_ms: number;
  sent_to_journal: string | null;
  state: CommandState;
  state_at_ms: number;
  ended_at_ms: number | null;
  result_type: string | null;
  result: Uint8Array | null;
  error_code: string | null;
  error_message: string | null;
}

/** A command as the hub knows it. */
export function storedOf(row: CommandRow): StoredCommand {
  return {
    position: row.position,
    acceptedAtMs: row.accepted_at_ms,
    dueAtMs: row.due_at_ms,
    sentToJournal: row.sent_to_journal ?? undefined,
    last: lastOf(row),
    command: {
      id: row.id,
      tenant: row.tenant,
      clientId: row.client_id,
      payload: { type: row.payload_type, value: row.payload },
      whenOffline: row.when_offline,
      timeoutMs: row.timeout_ms,
      waitForConnectMs: row.wait_for_connect_ms,
      ttlMs: row.ttl_ms,
      idempotent: row.idempotent === 1,
      idempotencyKey: row.idempotency_key ?? undefined,
      orderingKey: row.ordering_key ?? undefined,
      coalesceKey: row.coalesce_key ?? undefined,
      traceparent: row.traceparent ?? undefined,
    },
  };
}

function lastOf(row: CommandRow): CommandUpdate {
  const base = { commandId: row.id, clientId: row.client_id, atMs: row.state_at_ms };
  switch (row.state) {
    case 'queued':
    case 'sent':
    case 'delivered':
    case 'started':
      return { ...base, state: row.state };
    case 'progress':
      return { ...base, state: row.state, progress: {} };
    case 'succeeded':
      return {
        ...base,
        state: row.state,
        result: { type: row.result_type ?? '', value: row.result ?? new Uint8Array() },
      };
    case 'failed':
    case 'rejected':
    case 'cancelled':
    case 'expired':
    case 'unknown':
      return { ...base, state: row.state, error: { code: row.error_code ?? '', message: row.error_message ?? '' } };
    default:
      return row.state satisfies never;
  }
}
