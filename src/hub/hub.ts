import { HubError, toHubError } from '../errors.ts';
import { Alarm, TimingWheel } from '../flow/timing-wheel.ts';
import type { Command, CommandRecord, CommandUpdate, TerminalUpdate } from '../protocol/command.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import { Acknowledgements } from './acknowledgements.ts';
import { olderOnes } from './arrival.ts';
import { Arrivals } from './arrivals.ts';
import { Client } from './client.ts';
import type { ClaimedClient, HandedCommand } from './client-claims.ts';
import type { Clients } from './client-info.ts';
import { ClientTable } from './client-table.ts';
import { CommandLife, recordOf } from './command-life.ts';
import type { CommandFilter, StoredCommand } from './command-store.ts';
import type { DeviceIdentity, DeviceStream, DeviceStreamListener } from './device-stream.ts';
import type { CloseReason } from './facts.ts';
import { Holds } from './holds.ts';
import { dueAfterSending, Mailbox, type MailboxHost } from './mailbox.ts';
import { type HubOptions, type Settings, settingsFrom } from './options.ts';
import type { PendingCommand } from './pending-command.ts';
import { Publisher } from './publisher.ts';
import { Reports } from './reports.ts';
import { Session } from './session.ts';
import { isStray } from './stray-command.ts';
import { callerCancelled, Submissions } from './submissions.ts';
import { Sweep } from './sweep.ts';
import { EndReader, UpdateStream } from './update-stream.ts';

/** How a hub is emptied before it closes. */
export interface DrainOptions {
  /** Running commands have this many ms to end. Default: 25,000. */
  timeoutMs?: number;
  /** Devices come back after this many ms... Default: 1,000. */
  reconnectAfterMs?: number;
  /** ...plus a random part of this many. Default: 5,000. */
  spreadMs?: number;
}

/**
 * Holds the live streams of devices by client id, and sends commands to them: the in-process `CommandTransport`.
 * It knows no wire and no engine; streams, store and log are handed to it and stay their owner's.
 */
export class Hub implements CommandTransport {
  readonly #settings: Settings;
  readonly #wheel: TimingWheel;
  readonly #publisher: Publisher;
  readonly #life: CommandLife;
  readonly #directory: ClientTable;
  readonly #arrivals: Arrivals;
  readonly #submissions: Submissions;
  readonly #reports: Reports;
  readonly #acknowledgements: Acknowledgements;
  readonly #sweep: Sweep | undefined;
  readonly #mailboxes: MailboxHost | undefined;
  readonly #sessions = new Set<Session>();
  /** Streams that have not said hello. */
  readonly #greeting = new Set<Session>();
  #drain: { readonly retryAfterMs: () => number; done: Promise<void> } | undefined;
  #closing: Promise<void> | undefined;
  #onIdle: (() => void) | undefined;

  constructor(options: HubOptions = {}) {
    const settings = settingsFrom(options);
    this.#settings = settings;
    this.#wheel = new TimingWheel({ clock: settings.clock });
    this.#publisher = new Publisher(settings.log, (cause) => this.#failed('keep an event', cause));
    const failed = this.#failed;
    const clientOf = (tenant: string, clientId: string): Client | undefined => this.#directory.get(tenant, clientId);
    const holds = new Holds(settings.claims, clientOf, (tenant, clientId, epoch) => this.lost(tenant, clientId, epoch));
    this.#life = new CommandLife({
      settings,
      wheel: this.#wheel,
      publisher: this.#publisher,
      holds,
      clientOf,
      released: (client) => this.#directory.released(client),
      failed,
    });
    this.#publisher.recallFrom({
      toTell: (commandId) => this.#life.toTell(commandId),
      stored: (commandId) => this.#recallFromStore(commandId),
    });
    if (settings.commands) {
      this.#mailboxes = {
        store: settings.commands,
        wheel: this.#wheel,
        holds,
        newestPosition: 0,
        adopt: (stored) => this.#adopt(stored),
        dueAfterSending: (pending) => dueAfterSending(pending.command, pending.acceptedAtMs, settings),
        failed,
      };
      this.#sweep = new Sweep(settings.commands, this.#life, settings, failed);
    }
    const mailboxes = this.#mailboxes;
    this.#directory = new ClientTable(settings.rememberedClients, (tenant, id) => {
      const host = { node: settings.node, write: this.#write };
      return new Client(tenant, id, host, mailboxes && ((client) => new Mailbox(client, mailboxes)));
    });
    this.#reports = new Reports(settings, this.#life, this.#publisher, this.#wheel);
    this.#acknowledgements = new Acknowledgements(settings.clock);
    const hub = this;
    this.#submissions = new Submissions({
      settings,
      wheel: this.#wheel,
      life: this.#life,
      directory: this.#directory,
      mailboxes,
      holds,
      cancel: (command) => this.cancel(command.tenant, command.id, callerCancelled),
      get closingForMs() {
        return hub.#drain?.retryAfterMs();
      },
    });
    this.#arrivals = new Arrivals({
      settings,
      wheel: this.#wheel,
      life: this.#life,
      publisher: this.#publisher,
      sessions: this.#sessions,
      opened: (session) => {
        this.#greeting.delete(session);
        this.#sessions.add(session);
      },
      get closingForMs() {
        return hub.#drain?.retryAfterMs();
      },
      clientFor: (tenant, clientId) => this.#directory.getOrAdd(tenant, clientId),
      released: (client) => this.#directory.released(client),
      changed: (client) => this.#directory.changed(client),
      write: this.#write,
    });
  }

  /** The clients, connected and remembered. */
  get clients(): Clients {
    return this.#directory.shown;
  }

  /** What the hub carries now: open streams, and bytes of commands that devices have not acknowledged. */
  get load(): { readonly sessions: number; readonly outboxBytes: number } {
    let outboxBytes = 0;
    for (const { lineage } of this.#sessions) outboxBytes += lineage.outbox.bytes;
    return { sessions: this.#sessions.size, outboxBytes };
  }

  get isDraining(): boolean {
    return this.#drain !== undefined;
  }

  send(command: Command, { signal }: { signal?: AbortSignal | undefined } = {}): AsyncIterable<CommandUpdate> {
    return { [Symbol.asyncIterator]: () => this.#submissions.start(command, signal) };
  }

  settle<T>(command: Command, read: (end: TerminalUpdate) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#submissions.submit(command, new EndReader(read, resolve, reject));
    });
  }

  /**
   * The updates of a command that is known, from the first that is still known, to its end. Leaving the loop stops
   * the watching. Throws `not-found` for a command that nobody knows, or of another tenant. With `clientId` also what the
   * client has begun is found, where another hub had sent it.
   */
  watch(
    tenant: string,
    commandId: string,
    { signal, clientId }: { signal?: AbortSignal | undefined; clientId?: string | undefined } = {},
  ): AsyncIterable<CommandUpdate> {
    return {
      [Symbol.asyncIterator]: () => {
        const stream = new UpdateStream(this.#settings.unreadUpdates);
        stream.endWith(signal, () => stream.end());
        this.#find(tenant, commandId, clientId).then(
          (pending) => pending.attach(stream, () => this.#life.shelve(pending)),
          (error: unknown) => stream.fail(error),
        );
        return stream;
      },
    };
  }

  /** What is known of one command. Throws `not-found` also for a command of another tenant. */
  async get(
    tenant: string,
    commandId: string,
    { clientId }: { clientId?: string | undefined } = {},
  ): Promise<CommandRecord> {
    const pending = await this.#find(tenant, commandId, clientId);
    this.#life.putBack(pending);
    return recordOf(pending);
  }

  /** Commands that are known, newest first: those in memory and those in the store. */
  async list(filter: CommandFilter): Promise<CommandRecord[]> {
    const records = new Map<string, CommandRecord>();
    for (const stored of (await this.#settings.commands?.list(filter)) ?? [])
      records.set(stored.command.id, recordOf(stored));
    for (const pending of this.#life.registry) {
      const { command } = pending;
      if (command.tenant !== filter.tenant || (filter.clientId !== undefined && command.clientId !== filter.clientId))
        continue;
      if (filter.pendingOnly && pending.hasEnded) continue;
      if (isStray(pending) && filter.clientId === undefined) continue;
      records.set(command.id, recordOf(pending));
    }
    return [...records.values()].sort((a, b) => b.acceptedAtMs - a.acceptedAtMs).slice(0, filter.limit);
  }

  /**
   * Asks for a cancel. What was not sent is cancelled for certain; a device that has it is told to stop, and its
   * answer decides. Resolves to the newest update at that moment. Throws `not-found`, or `unavailable` when the end
   * of a stored command cannot be stored. `clientId`: as in `watch`.
   */
  async cancel(
    tenant: string,
    commandId: string,
    reason: string,
    { clientId }: { clientId?: string | undefined } = {},
  ): Promise<CommandUpdate> {
    const pending = await this.#find(tenant, commandId, clientId);
    if (pending.hasEnded) return pending.last;
    const client = this.#directory.get(tenant, pending.command.clientId);
    const mayHaveBeenSent =
      pending.place === 'in-flight' || (pending.place === 'shelf' && pending.journal !== undefined);
    if (mayHaveBeenSent || pending.isEnding) {
      if (pending.cancelReason === undefined) {
        pending.cancelReason = reason;
        if (pending.place === 'in-flight') client?.cancel(pending, reason);
      }
      return pending.last;
    }
    const ended = this.#life.endWith(pending, 'cancelled', { code: 'cancelled', message: reason });
    if (ended && !(await this.#within(ended, 5000)))
      throw new HubError('unavailable', `the cancel of command ${commandId} could not be stored yet`, {
        commandId,
        retryAfterMs: 1000,
      });
    return pending.last;
  }

  /** The clients that are connected here, as they were claimed: `count` of them from number `from`. Default: all. */
  held(from = 0, count = Number.POSITIVE_INFINITY): (ClaimedClient & { readonly epoch: number })[] {
    const held: (ClaimedClient & { readonly epoch: number })[] = [];
    let at = 0;
    for (const { client, epoch, stream } of this.#sessions) {
      if (at++ < from) continue;
      if (held.length >= count) break;
      const { tenant, id: clientId } = client;
      const { labels = {}, agent = '' } = this.#directory.get(tenant, clientId) ?? {};
      held.push({ tenant, clientId, labels, agent, peer: stream.peer, epoch });
    }
    return held;
  }

  /** Another hub holds this client, with this epoch: its stream here ends. News that is older than the stream is ignored. */
  lost(tenant: string, clientId: string, epoch: number): void {
    const client = this.#directory.get(tenant, clientId);
    if (client) this.#arrivals.lost(client, epoch);
  }

  /**
   * As `lost`, for the hub that holds the client now: gives up its live commands, and tells what they are. Those that
   * are just being handed over to this hub go along; they are waited for, a little less than the asking hub waits.
   */
  async yield(tenant: string, clientId: string, epoch: number): Promise<HandedCommand[]> {
    const client = this.#directory.get(tenant, clientId);
    if (!client || client.epoch >= epoch) return [];
    this.#arrivals.lost(client, epoch);
    if (client.arriving.size > 0) await this.#within(olderOnes(client.arriving, epoch), yieldWithinMs);
    if (client.epoch >= epoch) return [];
    const handed = [...client.inFlight, ...client.live].map((pending) => this.#life.handOver(pending));
    this.#directory.released(client);
    this.#noteIdle();
    return handed;
  }

  /** The client was claimed again for this hub, without a new stream. What was stored for it meanwhile is looked for. */
  renewed(tenant: string, clientId: string, epoch: number): void {
    const client = this.#directory.get(tenant, clientId);
    if (!client?.session || client.epoch >= epoch) return;
    client.epoch = epoch;
    client.session.epoch = epoch;
    client.mailbox?.lookAgain();
  }

  /** Takes over a new device stream. Feed what is returned with what the stream brings. */
  accept(stream: DeviceStream, identity: DeviceIdentity): DeviceStreamListener {
    const session = new Session(stream, identity, this.#sessionHost);
    this.#greeting.add(session);
    return session;
  }

  /**
   * Empties the hub: refuses new commands and devices, tells devices when to come back, and waits for running
   * commands to end. What is queued stays in the store. Calling it again waits for the same end.
   *
   * One of several hubs serves each device until it leaves, and sends it to the others a second after its time; a live
   * command that runs on goes with its device.
   */
  drain({ timeoutMs = 25_000, reconnectAfterMs = 1000, spreadMs = 5000 }: DrainOptions = {}): Promise<void> {
    if (this.#drain) return this.#drain.done;
    const retryAfterMs = (): number => Math.round(reconnectAfterMs + this.#settings.random() * spreadMs);
    this.#drain = { retryAfterMs, done: Promise.resolve() };
    this.#submissions.refuseAwaiting();
    for (const session of this.#sessions) {
      session.send(0, { $case: 'drain', value: { reconnectAfterMs, spreadMs } });
      // A device leaves by itself when it has nothing to do. One that always has is sent, and takes its commands along.
      if (this.#settings.claims)
        this.#wheel.set(new Alarm(() => session.end(sentAway)), retryAfterMs() + busyDevicesMs);
    }
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      this.#noteIdle();
    });
    this.#drain.done = this.#within(idle, timeoutMs).then(() => {
      for (const session of [...this.#sessions, ...this.#greeting])
        session.end(this.#settings.claims ? sentAway : { ...sentAway, retryAfterMs: retryAfterMs() });
      // The hubs to which the devices go ask for the live commands that are left.
      const isHandingOver = this.#settings.claims && timeoutMs > 0 && this.#hasLive();
      if (!isHandingOver) this.#onIdle = undefined;
      return isHandingOver ? this.#within(idle, handOverMs).then(() => undefined) : undefined;
    });
    return this.#drain.done;
  }

  /** Ends every stream and every live command, at once unless drained before. Calling it again changes nothing. */
  close(): Promise<void> {
    if (this.#closing) return this.#closing;
    const drained = this.drain({ timeoutMs: 0 });
    this.#onIdle?.();
    this.#closing = drained.then(() => {
      this.#sweep?.close();
      this.#life.close();
      this.#acknowledgements.close();
      this.#wheel.close();
    });
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Brings a stored command back to where it was, when its client's mailbox is read. */
  #adopt(stored: StoredCommand): PendingCommand | undefined {
    const known = this.#life.registry.get(stored.command.id);
    if (known && (known.hasEnded || known.isEnding || known.place !== 'shelf')) return undefined;
    const pending = known ?? this.#life.recall(stored);
    const client = this.#directory.get(stored.command.tenant, stored.command.clientId);
    if (pending.journal === undefined || !client?.session) return pending;
    const verdict = this.#arrivals.verdict(pending, client.session);
    if (verdict === 'again') return pending;
    this.#arrivals.settle(pending, verdict, client);
    return undefined;
  }

  /** Writes a command to a stream. With `seq` it is a repetition in a resumed session. */
  readonly #write = (session: Session, pending: PendingCommand, seq?: number): void => {
    const { command } = pending;
    const { clock } = this.#settings;
    const isLive = !pending.isQueued;
    const ageMs = clock.monotonic() - pending.acceptedAtMonotonic;
    const remainingMs = Math.floor((isLive ? command.timeoutMs : command.ttlMs) - ageMs);
    if (pending.hasEnded || pending.isEnding || remainingMs <= 0) {
      // The number was given away already: an empty frame takes its place.
      if (seq !== undefined) session.send(seq, undefined);
      else
        void this.#life.endWith(pending, 'expired', {
          code: 'timed-out',
          message: 'its time to live was over before it was sent',
        });
      return;
    }
    const finishWithinMs = Math.min(isLive ? remainingMs : command.timeoutMs, maxUint32);
    const body = {
      $case: 'command' as const,
      value: {
        id: command.id,
        payload: command.payload as { type: string; value: Uint8Array },
        startWithinMs: Math.min(remainingMs, maxUint32),
        finishWithinMs,
        idempotent: command.idempotent,
        orderingKey: command.orderingKey ?? '',
        traceparent: command.traceparent ?? '',
      },
    };
    pending.journal = session.journalId;
    session.send(seq ?? session.lineage.outbox.add(pending), body);
    this.#life.sent(pending);
  };

  async #find(tenant: string, commandId: string, clientId?: string): Promise<PendingCommand> {
    const known = this.#life.registry.get(commandId) ?? (await this.#recallFromStore(commandId));
    const pending = known ?? this.#strayOf(tenant, commandId, clientId);
    const isHidden = pending !== undefined && isStray(pending) && pending.command.clientId !== clientId;
    if (pending?.command.tenant === tenant && !isHidden) return pending;
    throw new HubError('not-found', `command ${JSON.stringify(commandId.slice(0, 64))} is not known`);
  }

  /** What its client has begun, and another hub had sent. */
  #strayOf(tenant: string, commandId: string, clientId: string | undefined): PendingCommand | undefined {
    const client = clientId === undefined ? undefined : this.#directory.get(tenant, clientId);
    const { session } = client ?? {};
    return client && session?.begun.has(commandId)
      ? (this.#life.registry.get(commandId) ?? this.#life.stray(commandId, client, session.journalId))
      : undefined;
  }

  async #recallFromStore(commandId: string): Promise<PendingCommand | undefined> {
    const stored = await this.#settings.commands?.get(commandId);
    if (!stored) return undefined;
    const pending = this.#life.recall(stored);
    // Whoever asks learns that it is accepted: what is accepted from now on stays behind it.
    this.#directory.get(stored.command.tenant, stored.command.clientId)?.foundStored(pending);
    return pending;
  }

  /** Resolves to false when `work` did not end (well) within `ms`. */
  #within(work: Promise<unknown>, ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const letGo = this.#settings.clock.after(ms, () => resolve(false));
      work
        .then(
          (value) => value !== false,
          () => false,
        )
        .then((isDone) => {
          letGo();
          resolve(isDone);
        });
    });
  }

  readonly #failed = (operation: string, cause: unknown): void => {
    this.#settings.observe({ kind: 'store-failed', operation, message: toHubError(cause).message, cause });
  };

  #hasLive(): boolean {
    for (const pending of this.#life.registry.open()) if (!pending.isQueued) return true;
    return false;
  }

  #noteIdle(): void {
    if (!this.#onIdle) return;
    if (this.#settings.claims) {
      if (this.#sessions.size > 0 || this.#hasLive()) return;
    } else for (const { client } of this.#sessions) if (this.#directory.get(client.tenant, client.id)?.isBusy) return;
    this.#onIdle();
  }

  readonly #sessionHost = ((hub: Hub) => ({
    get settings() {
      return hub.#settings;
    },
    get wheel() {
      return hub.#wheel;
    },
    open: (session: Session, hello: Parameters<Arrivals['open']>[1]) => {
      hub.#arrivals.open(session, hello);
    },
    closed: (session: Session, wasOpen: boolean, reason: CloseReason, message: string) =>
      hub.#closed(session, wasOpen, reason, message),
    delivered: (pending: PendingCommand) => hub.#life.delivered(pending),
    take: (session: Session, body: Parameters<Reports['take']>[1]) => {
      const kept = hub.#reports.take(session, body);
      if (hub.#onIdle) hub.#noteIdle();
      return kept;
    },
    measured: (session: Session, roundTripMs: number) => {
      const { tenant, id: clientId } = session.client;
      const client = hub.#directory.get(tenant, clientId);
      if (client) client.roundTripMs = roundTripMs;
      hub.#settings.observe({ kind: 'ping', tenant, clientId, roundTripMs });
    },
    owesAcknowledgement: (session: Session, isUrgent: boolean) => hub.#acknowledgements.owe(session, isUrgent),
  }))(this);

  #closed(session: Session, wasOpen: boolean, reason: CloseReason, message: string): void {
    this.#greeting.delete(session);
    if (!wasOpen) {
      this.#settings.observe({ kind: 'session-refused', peer: session.stream.peer, reason, message });
      return;
    }
    this.#sessions.delete(session);
    this.#arrivals.left(session, reason);
    const { client, epoch } = session;
    const heldMs = this.#settings.clock.monotonic() - session.openedAt;
    this.#settings.observe({
      kind: 'session-closed',
      tenant: client.tenant,
      clientId: client.id,
      epoch,
      reason,
      message,
      heldMs,
    });
    this.#noteIdle();
  }
}

const maxUint32 = 2 ** 32 - 1;
/** Of the second that the other hub waits. */
const yieldWithinMs = 900;
/** How a device is told to go to another hub. */
const sentAway = {
  reason: 'draining',
  message: 'the hub is shutting down',
  mayReconnect: true,
  retryAfterMs: 0,
} as const;
/** A device that has something to do may stay so many ms longer than the drain said. */
const busyDevicesMs = 1000;
/** After a drain, devices that had to go have this many ms to turn up at another hub. */
const handOverMs = 3000;
