import { channelKey, channelName, clientChannel, commandChannel, fleetChannel } from '../events/channels.ts';
import type { EventLog, NewEvent } from '../events/event-log.ts';
import type { CommandUpdate } from '../protocol/command.ts';
import type { ClientInfo } from './client-info.ts';
import { CommandEvent } from './command-event.ts';
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
   * The newest step of a command, for those who watch its client, and for those who watch the command. The channel of a
   * live command is opened with its first reader or its first progress, whichever comes first: the steps before that are
   * known by heart. What nobody may miss, acceptance and end of a queued command, is kept on disk.
   */
  step(pending: PendingCommand): void {
    const log = this.#log;
    if (!log) return;
    const { trail, isQueued } = pending;
    const { step } = trail;
    if (!isQueued && step !== undefined && log.appendStep && !pending.hasOpenChannel)
      log.appendStep(pending.clientChannel, trail, step);
    else this.#update(pending, pending.last);
  }

  #update(pending: PendingCommand, update: CommandUpdate): void {
    const { command, isQueued } = pending;
    const { type } = command.payload;
    const durable = isQueued && (update.state === 'queued' || pending.hasEnded);
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
