import { channelKey, channelName, clientChannel, commandChannel, fleetChannel } from '../events/channels.ts';
import type { EventLog, NewEvent } from '../events/event-log.ts';
import type { CommandState, CommandUpdate } from '../protocol/command.ts';
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
      if (!pending || commandKey(pending) !== key) return undefined;
      pending.hasOpenChannel = true;
      return pending.history().map((update) => eventOf(pending, update, false));
    });
  }

  /**
   * The newest step of a command, for those who watch its client, and for those who watch the command. The channel of a
   * command is opened with its first reader or its first progress, whichever comes first: the steps before that are
   * known by heart. What nobody may miss, acceptance and end of a queued command, is kept on disk.
   */
  step(pending: PendingCommand): void {
    const log = this.#log;
    if (!log) return;
    const { trail } = pending;
    const { step } = trail;
    if (step === undefined || !log.appendStep || pending.hasOpenChannel) this.#update(pending, pending.last);
    else log.appendStep(pending.clientChannel, trail, step, isDurable(pending, pending.state))?.catch(this.#failed);
  }

  /** A stored command comes into memory, perhaps again: somebody may have opened its channel before. */
  found(pending: PendingCommand): void {
    pending.hasOpenChannel = this.#log?.isOpen?.(commandKey(pending)) ?? false;
  }

  /** A stored command is forgotten here before its end: what its channel would begin with is put there. */
  leaving(pending: PendingCommand): void {
    if (pending.hasOpenChannel || !this.#log?.appendStep) return;
    pending.hasOpenChannel = true;
    for (const update of pending.history()) this.#append(commandKey(pending), eventOf(pending, update, false));
  }

  #update(pending: PendingCommand, update: CommandUpdate): void {
    this.#append(pending.clientChannel.key, eventOf(pending, update));
    // A log that is not asked for history in time, as it has no steps, gets the updates of queued commands one by one.
    const isFilled = pending.hasOpenChannel || (pending.isQueued && !this.#log?.appendStep);
    if (!isFilled && update.state !== 'progress') return;
    const told = isFilled ? [update] : pending.history();
    pending.hasOpenChannel = true;
    const key = commandKey(pending);
    for (const each of told) this.#append(key, eventOf(pending, each, false));
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

const commandKey = ({ command }: PendingCommand): string => channelKey(command.tenant, commandChannel(command.id));

function isDurable({ isQueued, hasEnded }: PendingCommand, state: CommandState): boolean {
  return isQueued && (state === 'queued' || hasEnded);
}

function eventOf(
  pending: PendingCommand,
  update: CommandUpdate,
  durable = isDurable(pending, update.state),
): CommandEvent {
  return new CommandEvent(pending.command.payload.type, update, durable);
}
