import { channelKey, clientChannel, commandChannel, fleetChannel } from '../events/channels.ts';
import type { EventLog, NewEvent } from '../events/event-log.ts';
import type { CommandUpdate, Payload } from '../protocol/command.ts';
import { isTerminal } from '../protocol/command.ts';
import type { ClientInfo } from './client-info.ts';
import type { PendingCommand } from './pending-command.ts';

/** Puts what happens in the hub into channels. An event's data is made only if somebody reads it. */
export class Publisher {
  readonly #log: EventLog | undefined;
  readonly #failed: (cause: unknown) => void;

  constructor(log: EventLog | undefined, failed: (cause: unknown) => void) {
    this.#log = log;
    this.#failed = failed;
  }

  /** One step of a command. What nobody may miss, acceptance and end of a queued command, is kept on disk. */
  update({ command, isQueued }: PendingCommand, update: CommandUpdate): void {
    if (!this.#log) return;
    const event: NewEvent = {
      type: `command.${update.state}`,
      atMs: update.atMs,
      data: () => commandEventData(command.payload.type, update),
      durable: false,
    };
    const durable = isQueued && (update.state === 'queued' || isTerminal(update.state));
    this.#append(channelKey(command.tenant, clientChannel(command.clientId)), durable ? { ...event, durable } : event);
    this.#append(channelKey(command.tenant, commandChannel(command.id)), event);
  }

  presence(type: 'client.connected' | 'client.disconnected', info: ClientInfo, atMs: number, reason?: string): void {
    const data = { client: info, ...(reason === undefined ? {} : { reason }) };
    this.#append(channelKey(info.tenant, clientChannel(info.id)), { type, atMs, data, durable: false });
    this.#append(channelKey(info.tenant, fleetChannel), { type, atMs, data, durable: false });
  }

  /** An event of the device itself. Resolves once it is kept; a repeated number adds nothing. */
  deviceEvent(tenant: string, clientId: string, event: NewEvent): Promise<void> | undefined {
    return this.#log?.append(channelKey(tenant, clientChannel(clientId)), event);
  }

  #append(key: string, event: NewEvent): void {
    this.#log?.append(key, event)?.catch(this.#failed);
  }
}

function commandEventData(type: string, update: CommandUpdate): unknown {
  const base = {
    commandId: update.commandId,
    clientId: update.clientId,
    type,
    state: update.state,
    at: new Date(update.atMs).toISOString(),
  };
  switch (update.state) {
    case 'progress': {
      const { fraction, note, item } = update.progress;
      return { ...base, progress: { fraction, note, item: item && payloadData(item) } };
    }
    case 'succeeded':
      return { ...base, result: payloadData(update.result) };
    case 'queued':
    case 'sent':
    case 'delivered':
    case 'started':
      return base;
    default:
      return { ...base, error: update.error };
  }
}

function payloadData(payload: Payload): unknown {
  return { type: payload.type, base64: Buffer.from(payload.value).toString('base64') };
}
