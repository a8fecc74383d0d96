import { channelKey, channelName, clientChannel, commandChannel, fleetChannel } from '../events/channels.ts';
import type { CommandHistory, EventLog, NewEvent } from '../events/event-log.ts';
import type { CommandState, CommandUpdate, TerminalUpdate } from '../protocol/command.ts';
import type { ClientInfo } from './client-info.ts';
import { CommandEvent } from './command-event.ts';
import type { CommandStore, WriteOptions } from './command-store.ts';
import { endStep } from './command-trail.ts';
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
  recallFrom(known: KnownCommands): void {
    this.#log?.recallCommands(
      (key) => {
        const pending = known.toTell(idOf(key));
        if (!pending || commandKey(pending) !== key) return undefined;
        pending.hasOpenChannel = true;
        return historyOf(pending);
      },
      async (key) => {
        const pending = await known.stored(idOf(key));
        return pending && commandKey(pending) === key ? historyOf(pending) : undefined;
      },
    );
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

  /**
   * Stores the end of a command together with the event that tells of it: the end that stands. Undefined where the store
   * cannot, or more than one channel is to be told: then the one comes after the other.
   */
  storeEnd(
    store: CommandStore,
    pending: PendingCommand,
    end: TerminalUpdate,
    options: WriteOptions,
  ): Promise<TerminalUpdate> | undefined {
    if (store.teller === undefined || store.teller.log !== this.#log || pending.hasOpenChannel) return undefined;
    const { trail: source, clientChannel: channel } = pending;
    source.foresee(end);
    return store.teller.finish(end, { channel, source, step: endStep }, options);
  }

  /** The end of a command whose client's channel has it already: somebody may watch the command since. */
  storedEnd(pending: PendingCommand): void {
    if (pending.hasOpenChannel) this.#append(commandKey(pending), eventOf(pending, pending.last, false));
  }

  /** A live command is taken on: who waits at its channel, as its sender has chosen the id, is told from its first step on. */
  begun(pending: PendingCommand): void {
    this.found(pending);
    if (pending.hasOpenChannel) this.#append(commandKey(pending), eventOf(pending, pending.last, false));
  }

  /** A command comes into memory that was known before, here or at another hub: somebody may have opened its channel. */
  found(pending: PendingCommand): void {
    pending.hasOpenChannel = this.#log?.isOpen(commandKey(pending)) ?? false;
  }

  /** A stored command is forgotten here before its end: what its channel would begin with is put there. */
  leaving(pending: PendingCommand): void {
    if (!pending.hasOpenChannel && this.#log?.appendStep) this.#begin(pending, pending.history());
  }

  #update(pending: PendingCommand, update: CommandUpdate): void {
    this.#append(pending.clientChannel.key, eventOf(pending, update));
    // Told when it was taken on.
    if (update.state === 'queued' && !pending.isQueued) return;
    if (!pending.hasOpenChannel) {
      // Progress is not known by heart later. Nor is what becomes of a stored command, which may be forgotten here at any
      // time: a log that has no steps is told at once.
      if (update.state !== 'progress' && (!pending.isQueued || this.#log?.appendStep)) return;
      const history = pending.history();
      this.#begin(pending, history.length === 1 ? history : history.slice(0, -1));
      if (history.length === 1) return;
    }
    this.#append(commandKey(pending), eventOf(pending, update, false));
  }

  #begin(pending: PendingCommand, history: readonly CommandUpdate[]): void {
    pending.hasOpenChannel = true;
    this.#log?.beginCommand(commandKey(pending), historyOf(pending, history));
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

/** Commands as the hub knows them. */
interface KnownCommands {
  /** One whose steps this hub is the one to tell. */
  toTell(commandId: string): PendingCommand | undefined;
  /** One that is stored; its steps may be known elsewhere. */
  stored(commandId: string): Promise<PendingCommand | undefined>;
}

const idOf = (key: string): string => channelName(key).slice(commandChannel('').length);

const commandKey = ({ command }: PendingCommand): string => channelKey(command.tenant, commandChannel(command.id));

function historyOf(pending: PendingCommand, history: readonly CommandUpdate[] = pending.history()): CommandHistory {
  return { events: history.map((update) => eventOf(pending, update, false)), isWhole: !pending.missesSteps };
}

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
