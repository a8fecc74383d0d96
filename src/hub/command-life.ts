import { HubError } from '../errors.ts';
import type { TimingWheel } from '../flow/timing-wheel.ts';
import {
  type Command,
  type CommandError,
  type CommandRecord,
  type CommandUpdate,
  isTerminal,
  type Progress,
  type TerminalState,
  type TerminalUpdate,
} from '../protocol/command.ts';
import type { Client } from './client.ts';
import type { HandedCommand } from './client-claims.ts';
import { CommandRegistry } from './command-registry.ts';
import type { StoredCommand } from './command-store.ts';
import type { Holds } from './holds.ts';
import type { Settings } from './options.ts';
import { PendingCommand } from './pending-command.ts';
import { ProgressPace } from './progress-pace.ts';
import type { Publisher } from './publisher.ts';
import { type EndTold, type StoredEnd, StoredSteps } from './stored-steps.ts';
import { StrayCommand } from './stray-command.ts';

/** What a command's life needs of the hub around it. */
export interface LifeHost {
  readonly settings: Settings;
  readonly wheel: TimingWheel;
  readonly publisher: Publisher;
  readonly holds: Holds;
  /** The client's record, if there is one. */
  clientOf(tenant: string, clientId: string): Client | undefined;
  /** Nothing of this client is pending any more, perhaps. */
  released(client: Client): void;
  failed(operation: string, cause: unknown): void;
}

/** Moves commands from state to state; the only place that does. A terminal state never changes. */
export class CommandLife {
  readonly registry: CommandRegistry;
  readonly #host: LifeHost;
  readonly #pace: ProgressPace;
  readonly #stored: StoredSteps;

  constructor(host: LifeHost) {
    this.#host = host;
    const { rememberedCommands, rememberedBytes } = host.settings;
    this.#stored = new StoredSteps(host);
    this.#pace = new ProgressPace(host.settings.clock, host.wheel, this.#tellProgress);
    this.registry = new CommandRegistry({ maxEnded: rememberedCommands, maxEndedBytes: rememberedBytes });
  }

  /** The client's record, if there is one. */
  clientOf(tenant: string, clientId: string): Client | undefined {
    return this.#host.clientOf(tenant, clientId);
  }

  /** A live command that is taken on now. */
  acceptLive(command: Command, { channel }: Client): PendingCommand {
    const { clock } = this.#host.settings;
    const accepted = { acceptedAtMs: clock.now(), monotonic: clock.monotonic(), channel };
    const pending = new PendingCommand(command, accepted, this.#overdue);
    this.registry.add(pending);
    this.#host.wheel.set(pending, command.timeoutMs);
    this.#host.publisher.begun(pending);
    this.#accepted(pending);
    return pending;
  }

  /** Says on the channel of its client that a live command has to wait. One that is sent at once says that instead. */
  publishWait(pending: PendingCommand): void {
    this.#host.publisher.step(pending);
  }

  /** A queued command that was stored now. */
  acceptStored(stored: StoredCommand): PendingCommand {
    const pending = this.recall(stored);
    pending.missesSteps = false;
    pending.wasFound = false;
    this.#accepted(pending);
    this.#tell(pending, stored.last);
    return pending;
  }

  /** A command whose steps this hub is the one to tell. */
  toTell(commandId: string): PendingCommand | undefined {
    const pending = this.registry.get(commandId);
    const isOthers = pending?.wasFound && pending.place === 'shelf' && this.#host.settings.claims;
    return isOthers ? undefined : pending;
  }

  /** A stored command as this process knows it; it may have been accepted long ago. */
  recall(stored: StoredCommand): PendingCommand {
    const known = this.registry.get(stored.command.id);
    if (known) {
      known.catchUp(stored);
      return known;
    }
    const { clock } = this.#host.settings;
    const monotonic = clock.monotonic() - (clock.now() - stored.acceptedAtMs);
    const { acceptedAtMs, position, last, command } = stored;
    const channel = this.#host.clientOf(command.tenant, command.clientId)?.channel;
    const pending = new PendingCommand(command, { acceptedAtMs, monotonic, position, last, channel }, this.#overdue);
    pending.journal = stored.sentToJournal;
    pending.missesSteps = stored.sentToJournal !== undefined;
    this.registry.add(pending);
    this.#host.publisher.found(pending);
    pending.wasFound = true;
    if (isTerminal(stored.last.state)) this.registry.ended(pending);
    return pending;
  }

  /** Forgets a stored command that nobody watches and that is not on its way; the store has it. */
  readonly shelve = (pending: PendingCommand): void => {
    if (!this.#isIdle(pending)) return;
    this.#host.publisher.leaving(pending);
    this.registry.forget(pending);
  };

  /** As `shelve`, for one that was only looked at. */
  putBack(pending: PendingCommand): void {
    if (this.#isIdle(pending)) this.registry.forget(pending);
  }

  /** The client is another hub's now, and this command with it: nothing of it is known here any more. */
  readonly letGo = (pending: PendingCommand): void => {
    const { command } = pending;
    this.#pace.forget(pending);
    this.#host.wheel.clear(pending);
    this.#host.clientOf(command.tenant, command.clientId)?.remove(pending);
    this.registry.forget(pending);
    pending.leave(
      new HubError(
        pending.isQueued ? 'unavailable' : 'outcome-unknown',
        `client ${command.clientId} has moved to another node, and command ${command.id} with it`,
        { commandId: command.id },
      ),
    );
  };

  /** Gives up a live command, for the hub that has its device now. */
  handOver(pending: PendingCommand): HandedCommand {
    const { command, acceptedAtMs, last, journal, cancelReason } = pending;
    const timeoutMs = Math.max(1, Math.ceil(command.timeoutMs - this.#age(pending)));
    this.letGo(pending);
    return { command: { ...command, timeoutMs }, acceptedAtMs, last, journal, cancelReason };
  }

  /** Goes on with a live command that another hub has given up. */
  takeOver({ command, acceptedAtMs, last, journal, cancelReason }: HandedCommand, client: Client): void {
    if (this.registry.get(command.id)) return;
    const monotonic = this.#host.settings.clock.monotonic();
    const pending = new PendingCommand(
      command,
      { acceptedAtMs, last, monotonic, channel: client.channel },
      this.#overdue,
    );
    pending.journal = journal;
    pending.missesSteps = journal !== undefined;
    pending.cancelReason = cancelReason;
    this.registry.add(pending);
    this.#host.publisher.found(pending);
    this.#host.wheel.set(pending, command.timeoutMs);
    if (journal === undefined) client.pushLive(pending);
    else {
      pending.place = 'in-flight';
      client.inFlight.push(pending);
    }
  }

  /** A command that its device has begun, and nobody here has heard of. */
  stray(id: string, client: Client, journal: string): PendingCommand {
    const { clock } = this.#host.settings;
    const at = { nowMs: clock.now(), monotonic: clock.monotonic() };
    const pending = new StrayCommand(id, client, at, this.#overdue);
    pending.journal = journal;
    this.registry.add(pending);
    this.#host.publisher.found(pending);
    client.inFlight.push(pending);
    this.#host.wheel.set(pending, pending.command.timeoutMs);
    return pending;
  }

  /** The store has lost it (it came back empty), and its client is away: who waits for it here is told. */
  lostInStore(pending: PendingCommand): void {
    if (pending.hasEnded || pending.isEnding) return;
    const { id: commandId, command } = pending;
    const message = 'the store has lost this command; it may have been run';
    const error = { code: 'outcome-unknown', message };
    const atMs = this.#host.settings.clock.now();
    pending.isEnding = true;
    this.#conclude(
      pending,
      { commandId, clientId: command.clientId, atMs, state: 'unknown', error },
      this.#host.clientOf(command.tenant, command.clientId),
    );
  }

  sent(pending: PendingCommand): void {
    if (pending.canMoveTo('sent')) this.#reach(pending, 'sent');
  }

  readonly delivered = (pending: PendingCommand): void => {
    if (!pending.canMoveTo('delivered') || pending.isEnding) return;
    const { command } = pending;
    if (this.#host.settings.isObserved)
      this.#host.settings.observe({
        kind: 'command-delivered',
        tenant: command.tenant,
        clientId: command.clientId,
        commandId: command.id,
        afterMs: this.#age(pending),
      });
    this.#advance(pending, 'delivered');
  };

  started(pending: PendingCommand): void {
    if (pending.canMoveTo('started')) this.#advance(pending, 'started');
  }

  /** Items are told one by one; plain progress at most ten times a second, the newest of it in any case. */
  progress(pending: PendingCommand, progress: Progress): void {
    if (pending.canMoveTo('progress') && !pending.isEnding) this.#pace.take(pending, progress);
  }

  /** Ends a command that did not succeed. */
  endWith(
    pending: PendingCommand,
    state: Exclude<TerminalState, 'succeeded'>,
    error: CommandError,
  ): Promise<boolean> | undefined {
    const { id: commandId, command } = pending;
    return this.end(pending, {
      commandId,
      clientId: command.clientId,
      atMs: this.#host.settings.clock.now(),
      state,
      error,
    });
  }

  /** Ends a command. The first end wins. Of a stored one the promise resolves once the end is on disk (true), or never will be (false). */
  end(pending: PendingCommand, update: TerminalUpdate): Promise<boolean> | undefined {
    if (pending.hasEnded || pending.isEnding) return undefined;
    pending.isEnding = true;
    const client = this.#host.clientOf(pending.command.tenant, pending.command.clientId);
    // Not on its way any more, so that nothing sends it while the store writes; its place in the window stays taken.
    if (pending.place === 'waiting') client?.remove(pending);
    if (!pending.isQueued) {
      this.#conclude(pending, update, client);
      return undefined;
    }
    return this.#save(pending, update);
  }

  /** The store itself has ended it: superseded by a newer command. */
  endedInStore(stored: StoredCommand): void {
    this.#takeEnd(stored, 'not-yet');
  }

  /** Another hub over the same store has ended it, and has told the log: who waits for it here is told, too. */
  endedElsewhere(stored: StoredCommand): void {
    this.#takeEnd(stored, 'by-another');
  }

  #takeEnd(stored: StoredCommand, told: EndTold): void {
    const pending = this.recall(stored);
    if (pending.hasEnded || !isTerminal(stored.last.state)) return;
    const client = this.#host.clientOf(pending.command.tenant, pending.command.clientId);
    pending.isEnding = true;
    this.#conclude(pending, stored.last as TerminalUpdate, client, told);
  }

  /** Ends what is left in memory at the close of the hub; what is stored stays as it is. */
  close(): void {
    this.#stored.close();
    for (const pending of this.registry.open())
      if (!pending.isQueued) void this.#endForTime(pending, 'hub-closed', 'the hub was closed');
  }

  /** Time is over: what was surely not begun is expired, what may be repeated too; anything else is unknown. */
  timeIsOver(pending: PendingCommand): Promise<boolean> | undefined {
    return this.#endForTime(
      pending,
      'timed-out',
      `no result within ${pending.isQueued ? pending.command.ttlMs : pending.command.timeoutMs} ms`,
    );
  }

  #endForTime(pending: PendingCommand, code: string, message: string): Promise<boolean> | undefined {
    if (pending.place !== 'in-flight' && !(pending.isQueued && pending.journal !== undefined))
      return this.endWith(pending, 'expired', { code, message: `${message}; it was not sent` });
    if (pending.command.idempotent)
      return this.endWith(pending, 'expired', { code, message: `${message}; it was sent and may be repeated` });
    return this.endWith(pending, 'unknown', { code, message: `${message}; it was sent and may have been run` });
  }

  /** The deadline of a live command, and then the end of its grace. */
  readonly #overdue = (pending: PendingCommand): void => {
    if (pending.hasEnded || pending.isEnding) return;
    const client = this.#host.clientOf(pending.command.tenant, pending.command.clientId);
    // The hub that has its device now may hear how it ended: that is not to be told twice.
    if (client?.isLost && !pending.isQueued && pending.journal !== undefined) {
      this.letGo(pending);
      return;
    }
    if (pending.place === 'in-flight' && !pending.isOverdue && client?.session && this.#host.settings.graceMs > 0) {
      pending.isOverdue = true;
      client.cancel(pending, 'timed out');
      this.#host.wheel.set(pending, this.#host.settings.graceMs);
    } else void this.timeIsOver(pending);
  };

  #isIdle(pending: PendingCommand): boolean {
    return (
      pending.isQueued && pending.place === 'shelf' && !pending.isWatched && !pending.isEnding && !pending.hasEnded
    );
  }

  #accepted(pending: PendingCommand): void {
    if (!this.#host.settings.isObserved) return;
    const { command } = pending;
    this.#host.settings.observe({
      kind: 'command-accepted',
      tenant: command.tenant,
      clientId: command.clientId,
      commandId: command.id,
      type: command.payload.type,
      queued: pending.isQueued,
      traceparent: command.traceparent,
    });
  }

  #advance(pending: PendingCommand, state: 'delivered' | 'started'): void {
    this.#reach(pending, state);
    if (pending.isQueued) this.#stored.note(pending);
  }

  /** Asks the store until it takes the end: true. False when the hub is closed or loses the client first; the device will tell it again. */
  #save(pending: PendingCommand, update: TerminalUpdate): Promise<boolean> {
    return this.#stored.end(pending, update).then((saved) => this.#saved(pending, update, saved));
  }

  #saved(pending: PendingCommand, update: TerminalUpdate, saved: StoredEnd): boolean {
    const client = this.#host.clientOf(pending.command.tenant, pending.command.clientId);
    switch (saved.kind) {
      case 'stored':
        this.#conclude(pending, saved.standing, client, saved.told);
        return true;
      case 'not-there':
        // Who waits for it here is told all the same.
        this.#conclude(pending, update, client);
        return true;
      case 'moved':
        pending.isEnding = false;
        this.letGo(pending);
        return false;
      case 'closed':
        return false;
      default:
        return saved satisfies never;
    }
  }

  /** `told`: what the log knows. Another hub that has told it has also counted it. */
  #conclude(
    pending: PendingCommand,
    update: TerminalUpdate,
    client: Client | undefined,
    told: EndTold = 'not-yet',
  ): void {
    // Found in the store as ended, while its end was on its way there.
    if (pending.hasEnded) return;
    this.#pace.release(pending);
    this.#host.wheel.clear(pending);
    client?.remove(pending);
    pending.isEnding = false;
    const { command } = pending;
    pending.tell(update);
    if (told === 'not-yet') this.#host.publisher.step(pending);
    else if (told === 'with-the-end') this.#host.publisher.storedEnd(pending);
    this.registry.ended(pending);
    if (this.#host.settings.isObserved && told !== 'by-another')
      this.#host.settings.observe({
        kind: 'command-ended',
        tenant: command.tenant,
        clientId: command.clientId,
        commandId: command.id,
        type: command.payload.type,
        state: update.state,
        queued: pending.isQueued,
        afterMs: this.#age(pending),
        code: update.state === 'succeeded' ? undefined : update.error.code,
      });
    if (!client) return;
    if (client.session) client.pump();
    else this.#host.released(client);
  }

  #tell(pending: PendingCommand, update: CommandUpdate): void {
    pending.tell(update);
    this.#host.publisher.step(pending);
  }

  readonly #tellProgress = (pending: PendingCommand, progress: Progress): void => {
    const { id: commandId, command } = pending;
    const atMs = this.#host.settings.clock.now();
    this.#tell(pending, { commandId, clientId: command.clientId, state: 'progress', atMs, progress });
  };

  #reach(pending: PendingCommand, state: 'sent' | 'delivered' | 'started'): void {
    pending.reach(state, this.#host.settings.clock.now());
    this.#host.publisher.step(pending);
  }

  #age(pending: PendingCommand): number {
    return this.#host.settings.clock.monotonic() - pending.acceptedAtMonotonic;
  }
}

/** A record without the machinery around it. */
export function recordOf({ command, acceptedAtMs, last }: CommandRecord): CommandRecord {
  return { command, acceptedAtMs, last };
}
