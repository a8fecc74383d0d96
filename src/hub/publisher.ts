import { channelKey, channelName, clientChannel, commandChannel, fleetChannel } from '../events/channels.ts';
import type { EventLog, NewEvent } from '../events/event-log.ts';
import type { CommandState, CommandUpdate, Payload } from '../protocol/command.ts';
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

  /** Lets a command's channel begin with its history when it is first read. */
  recallFrom(find: (commandId: string) => PendingCommand | undefined): void {
    this.#log?.recallCommands((key) => {
      const pending = find(channelName(key).slice(commandChannel('').length));
      if (!pending || channelKey(pending.command.tenant, commandChannel(pending.id)) !== key) return undefined;
      pending.hasOpenChannel = true;
      return pending.history().map((update) => new CommandEvent(pending.command.payload.type, update, false));
    });
  }

  /**
   * One step of a command, for those who watch its client, and for those who watch the command. The channel of a live
   * command is opened with its first reader or its first progress, whichever comes first: the steps before that are
   * known by heart. What nobody may miss, acceptance and end of a queued command, is kept on disk.
   */
  update(pending: PendingCommand, update: CommandUpdate): void {
    if (!this.#log) return;
    const { command, isQueued } = pending;
    const { type } = command.payload;
    const durable = isQueued && (update.state === 'queued' || isTerminal(update.state));
    this.#append(pending.clientChannel, new CommandEvent(type, update, durable));
    if (!pending.hasOpenChannel && update.state !== 'progress' && !isQueued) return;
    const told = pending.hasOpenChannel || isQueued ? [update] : pending.history();
    pending.hasOpenChannel = true;
    const key = channelKey(command.tenant, commandChannel(command.id));
    for (const each of told) this.#append(key, new CommandEvent(type, each, false));
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

/** A command's step as an event: one object, of which the data is made when somebody reads it. */
class CommandEvent implements NewEvent {
  readonly durable: boolean;
  readonly #commandType: string;
  readonly #update: CommandUpdate;

  constructor(commandType: string, update: CommandUpdate, durable: boolean) {
    this.#commandType = commandType;
    this.#update = update;
    this.durable = durable;
  }

  get type(): string {
    return eventTypes[this.#update.state];
  }

  get atMs(): number {
    return this.#update.atMs;
  }

  get data(): this {
    return this;
  }

  get bytes(): number {
    return 256 + (this.#update.state === 'succeeded' ? this.#update.result.value.length : 0);
  }

  toJSON(): unknown {
    return commandEventData(this.#commandType, this.#update);
  }
}

const eventTypes: Record<CommandState, string> = {
  queued: 'command.queued',
  sent: 'command.sent',
  delivered: 'command.delivered',
  started: 'command.started',
  progress: 'command.progress',
  succeeded: 'command.succeeded',
  failed: 'command.failed',
  rejected: 'command.rejected',
  cancelled: 'command.cancelled',
  expired: 'command.expired',
  unknown: 'command.unknown',
};

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
