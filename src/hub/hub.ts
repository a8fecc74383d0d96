import { HubError, toHubError } from '../errors.ts';
import { Alarm, TimingWheel } from '../flow/timing-wheel.ts';
import { checkCommand } from '../protocol/checks.ts';
import type { Command, CommandRecord, CommandUpdate } from '../protocol/command.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import { samePayload } from '../protocol/same-payload.ts';
import { Acknowledgements } from './acknowledgements.ts';
import { Arrivals } from './arrivals.ts';
import { Client } from './client.ts';
import { ClientDirectory } from './client-directory.ts';
import type { Clients } from './client-info.ts';
import { CommandLife, recordOf } from './command-life.ts';
import type { AddOptions, CommandFilter, StoredCommand } from './command-store.ts';
import type { DeviceIdentity, DeviceStream, DeviceStreamListener } from './device-stream.ts';
import type { CloseReason } from './facts.ts';
import { Mailbox, type MailboxHost } from './mailbox.ts';
import { type HubOptions, type Settings, settingsFrom } from './options.ts';
import type { PendingCommand } from './pending-command.ts';
import { Publisher } from './publisher.ts';
import { Reports } from './reports.ts';
import { Session } from './session.ts';
import { Sweep } from './sweep.ts';
import { UpdateStream } from './update-stream.ts';

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
  readonly #directory: ClientDirectory;
  readonly #arrivals: Arrivals;
  readonly #reports: Reports;
  readonly #acknowledgements: Acknowledgements;
  readonly #sweep: Sweep | undefined;
  readonly #mailboxes: MailboxHost | undefined;
  readonly #sessions = new Set<Session>();
  /** Streams that have not said hello. */
  readonly #greeting = new Set<Session>();
  /** Refuses sends that wait for their client to connect. */
  readonly #awaiting = new Set<(error: HubError) => void>();
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
    this.#life = new CommandLife({
      settings,
      wheel: this.#wheel,
      publisher: this.#publisher,
      clientOf,
      released: (client) => this.#directory.released(client),
      failed,
    });
    if (settings.commands) {
      this.#mailboxes = {
        store: settings.commands,
        wheel: this.#wheel,
        newestPosition: 0,
        adopt: (client, stored) => this.#adopt(client, stored),
        dueAfterSending: (pending) => dueAfterSending(pending.command, pending.acceptedAtMs, settings),
        failed,
      };
      this.#sweep = new Sweep(settings.commands, this.#life, settings, failed);
    }
    const mailboxes = this.#mailboxes;
    this.#directory = new ClientDirectory(settings.rememberedClients, (tenant, id, key) => {
      const host = { node: settings.node, write: this.#write };
      return new Client(tenant, id, key, host, mailboxes && ((client) => new Mailbox(client, mailboxes)));
    });
    this.#reports = new Reports(settings, this.#life, this.#publisher, this.#wheel);
    this.#acknowledgements = new Acknowledgements(settings.clock);
    const hub = this;
    this.#arrivals = new Arrivals({
      settings,
      wheel: this.#wheel,
      life: this.#life,
      publisher: this.#publisher,
      sessions: this.#sessions,
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

  get isDraining(): boolean {
    return this.#drain !== undefined;
  }

  send(command: Command, { signal }: { signal?: AbortSignal | undefined } = {}): AsyncIterable<CommandUpdate> {
    return { [Symbol.asyncIterator]: () => this.#start(command, signal) };
  }

  /**
   * The updates of a command that is known, from the first that is still known, to its end. Leaving the loop stops
   * the watching. Throws `not-found` for a command that nobody knows, or of another tenant.
   */
  watch(
    tenant: string,
    commandId: string,
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): AsyncIterable<CommandUpdate> {
    return {
      [Symbol.asyncIterator]: () => {
        const stream = new UpdateStream(this.#settings.unreadUpdates);
        stream.endWith(signal, () => stream.end());
        this.#find(tenant, commandId).then(
          (pending) => pending.attach(stream, () => this.#life.shelve(pending)),
          (error: unknown) => stream.fail(error),
        );
        return stream;
      },
    };
  }

  /** What is known of one command. Throws `not-found` also for a command of another tenant. */
  async get(tenant: string, commandId: string): Promise<CommandRecord> {
    const pending = await this.#find(tenant, commandId);
    this.#life.shelve(pending);
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
      records.set(command.id, recordOf(pending));
    }
    return [...records.values()].sort((a, b) => b.acceptedAtMs - a.acceptedAtMs).slice(0, filter.limit);
  }

  /**
   * Asks for a cancel. What was not sent is cancelled for certain; a device that has it is told to stop, and its
   * answer decides. Resolves to the newest update at that moment. Throws `not-found`, or `unavailable` when the end
   * of a stored command cannot be stored.
   */
  async cancel(tenant: string, commandId: string, reason: string): Promise<CommandUpdate> {
    const pending = await this.#find(tenant, commandId);
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

  /** Takes over a new device stream. Feed what is returned with what the stream brings. */
  accept(stream: DeviceStream, identity: DeviceIdentity): DeviceStreamListener {
    const session = new Session(stream, identity, this.#sessionHost);
    this.#greeting.add(session);
    return session;
  }

  /**
   * Empties the hub: refuses new commands and devices, tells devices when to come back, and waits for running
   * commands to end. What is queued stays in the store. Calling it again waits for the same end.
   */
  drain({ timeoutMs = 25_000, reconnectAfterMs = 1000, spreadMs = 5000 }: DrainOptions = {}): Promise<void> {
    if (this.#drain) return this.#drain.done;
    const retryAfterMs = (): number => Math.round(reconnectAfterMs + this.#settings.random() * spreadMs);
    this.#drain = { retryAfterMs, done: Promise.resolve() };
    for (const refuse of [...this.#awaiting]) refuse(this.#shuttingDown());
    for (const session of this.#sessions) session.send(0, { $case: 'drain', value: { reconnectAfterMs, spreadMs } });
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
      this.#noteIdle();
    });
    this.#drain.done = this.#within(idle, timeoutMs).then(() => {
      this.#onIdle = undefined;
      for (const session of [...this.#sessions, ...this.#greeting])
        session.end({
          reason: 'draining',
          message: 'the hub is shutting down',
          mayReconnect: true,
          retryAfterMs: retryAfterMs(),
        });
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

  #start(command: Command, signal: AbortSignal | undefined): UpdateStream {
    const stream = new UpdateStream(this.#settings.unreadUpdates);
    try {
      if (signal?.aborted)
        throw new HubError('command-cancelled', `command ${command.id} was cancelled before it was sent`);
      checkCommand(command, this.#settings.maxPayloadBytes);
      if (this.#drain) throw this.#shuttingDown();
      stream.endWith(signal, () => {
        this.cancel(command.tenant, command.id, 'the caller cancelled').catch((error: unknown) => stream.fail(error));
      });
      if (command.whenOffline === 'queue')
        void this.#submitQueued(command, stream).catch((error: unknown) => this.#refuse(command, stream, error));
      else this.#submitLive(command, stream);
    } catch (error) {
      this.#refuse(command, stream, error);
    }
    return stream;
  }

  #submitLive(command: Command, stream: UpdateStream): void {
    const same = this.#sameLive(command);
    const { tenant, clientId, waitForConnectMs } = command;
    const client = this.#directory.get(tenant, clientId);
    if (same) same.attach(stream);
    else if (client?.session) this.#acceptLive(command, stream, client);
    else if (waitForConnectMs === 0)
      throw new HubError('client-offline', `client ${clientId} has no live stream`, { commandId: command.id });
    else this.#awaitClient(command, stream);
  }

  #acceptLive(command: Command, stream: UpdateStream, client: Client): void {
    const { waitingCommands, waitingBytes } = this.#settings;
    if (client.live.size >= waitingCommands || client.liveBytes + command.payload.value.length > waitingBytes)
      throw new HubError(
        'unavailable',
        `client ${client.id} has ${client.live.size} commands (${client.liveBytes} bytes) waiting, the limits are ${waitingCommands} and ${waitingBytes}`,
        { retryAfterMs: 1000, commandId: command.id },
      );
    const pending = this.#life.acceptLive(command);
    pending.attach(stream);
    client.pushLive(pending);
    client.pump();
  }

  /** Not accepted before the client is there: until then it can only fail, and nothing was promised. */
  #awaitClient(command: Command, stream: UpdateStream): void {
    const { tenant, clientId, waitForConnectMs } = command;
    const client = this.#directory.getOrAdd(tenant, clientId);
    if (client.awaiting.size >= this.#settings.waitingCommands)
      throw new HubError(
        'unavailable',
        `${client.awaiting.size} commands wait for client ${clientId} to connect, the limit`,
        {
          retryAfterMs: 1000,
          commandId: command.id,
        },
      );
    const stop = (): void => {
      this.#wheel.clear(late);
      client.awaiting.delete(arrived);
      this.#awaiting.delete(refuse);
      stream.onCancel = undefined;
      this.#directory.released(client);
    };
    const arrived = (): void => {
      stop();
      try {
        const same = this.#sameLive(command);
        if (same) same.attach(stream);
        else this.#acceptLive(command, stream, client);
      } catch (error) {
        this.#refuse(command, stream, error);
      }
    };
    const refuse = (error: HubError): void => {
      stop();
      this.#refuse(command, stream, error);
    };
    const late = new Alarm(() => {
      const message = `client ${clientId} did not connect within ${waitForConnectMs} ms`;
      refuse(new HubError('client-offline', message, { commandId: command.id }));
    });
    client.awaiting.add(arrived);
    this.#awaiting.add(refuse);
    this.#wheel.set(late, waitForConnectMs);
    stream.onReturn = stop;
    stream.onCancel = () =>
      refuse(
        new HubError('command-cancelled', `command ${command.id} was cancelled before it was sent`, {
          commandId: command.id,
        }),
      );
  }

  /** The live command that this one repeats, by id or idempotency key. */
  #sameLive(command: Command): PendingCommand | undefined {
    const { registry } = this.#life;
    const { id, tenant, clientId, idempotencyKey } = command;
    const same =
      registry.get(id) ??
      (idempotencyKey === undefined ? undefined : registry.withKey(tenant, clientId, idempotencyKey));
    if (same && !isSame(same.command, command)) throw conflict(command);
    return same;
  }

  async #submitQueued(command: Command, stream: UpdateStream): Promise<void> {
    const { commands: store, clock, mailboxCommands, mailboxBytes } = this.#settings;
    if (!store) throw new HubError('unimplemented', 'this hub has no store, so it takes no queued commands');
    const known = this.#life.registry.get(command.id);
    if (known && !isSame(known.command, command)) throw conflict(command);
    if (known) return known.attach(stream, () => this.#life.shelve(known));
    const nowMs = clock.now();
    const { client, session, mailbox } = this.#recipient(command);
    const goesAtOnce =
      session && mailbox?.isCaughtUp && client.live.size === 0 && client.inFlight.size < session.window;
    const options: AddOptions = {
      nowMs,
      maxCommands: mailboxCommands,
      maxBytes: mailboxBytes,
      dueAtMs: goesAtOnce ? dueAfterSending(command, nowMs, this.#settings) : nowMs + command.ttlMs,
      ...(goesAtOnce ? { sentToJournal: session.journalId } : {}),
      ...(command.coalesceKey === undefined ? {} : { supersede: supersede(command.coalesceKey, mailbox) }),
    };
    const outcome = await store.add(command, options);
    switch (outcome.kind) {
      case 'stored': {
        for (const old of outcome.superseded) this.#life.endedInStore(old);
        if (this.#mailboxes)
          this.#mailboxes.newestPosition = Math.max(this.#mailboxes.newestPosition, outcome.stored.position);
        const pending = this.#life.acceptStored(outcome.stored);
        pending.attach(stream, () => this.#life.shelve(pending));
        this.#directory.get(command.tenant, command.clientId)?.acceptStored(pending);
        this.#life.shelve(pending);
        return;
      }
      case 'existing': {
        const pending = this.#life.recall(outcome.stored);
        pending.attach(stream, () => this.#life.shelve(pending));
        return;
      }
      case 'conflict':
        throw new HubError('idempotency-conflict', outcome.message, { commandId: command.id });
      case 'full':
        throw new HubError('mailbox-full', outcome.message, { commandId: command.id, retryAfterMs: 1000 });
      default:
        outcome satisfies never;
    }
  }

  #recipient(command: Command) {
    const client = this.#directory.get(command.tenant, command.clientId);
    return client?.session
      ? { client, session: client.session, mailbox: client.mailbox }
      : { client, session: undefined, mailbox: undefined };
  }

  /** Brings a stored command back to where it was, when its client's mailbox is read. */
  #adopt(client: Client, stored: StoredCommand): PendingCommand | undefined {
    const known = this.#life.registry.get(stored.command.id);
    if (known && (known.hasEnded || known.isEnding || known.place !== 'shelf')) return undefined;
    const pending = known ?? this.#life.recall(stored);
    const { session } = client;
    if (pending.journal === undefined || !session) return pending;
    const verdict = this.#arrivals.verdict(pending, session);
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
    session.send(seq ?? session.lineage.outbox.add(body, command.payload.value.length, pending), body);
    this.#life.sent(pending);
  };

  async #find(tenant: string, commandId: string): Promise<PendingCommand> {
    const known = this.#life.registry.get(commandId);
    const pending = known ?? (await this.#recallFromStore(commandId));
    if (pending?.command.tenant === tenant) return pending;
    throw new HubError('not-found', `command ${JSON.stringify(commandId.slice(0, 64))} is not known`);
  }

  async #recallFromStore(commandId: string): Promise<PendingCommand | undefined> {
    const stored = await this.#settings.commands?.get(commandId);
    return stored && this.#life.recall(stored);
  }

  #shuttingDown(): HubError {
    return new HubError('unavailable', 'the hub is shutting down', { retryAfterMs: this.#drain?.retryAfterMs() ?? 0 });
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

  #refuse(command: Command, stream: UpdateStream, thrown: unknown): void {
    const error = toHubError(thrown);
    const { tenant, clientId, id: commandId } = command;
    this.#settings.observe({
      kind: 'command-refused',
      tenant,
      clientId,
      commandId,
      code: error.code,
      message: error.message,
    });
    stream.fail(error);
  }

  readonly #failed = (operation: string, cause: unknown): void => {
    this.#settings.observe({ kind: 'store-failed', operation, message: toHubError(cause).message, cause });
  };

  #noteIdle(): void {
    if (!this.#onIdle) return;
    for (const session of this.#sessions) if (session.client.inFlight.size > 0 || session.client.live.size > 0) return;
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
      hub.#greeting.delete(session);
      hub.#arrivals.open(session, hello);
      if (session.isOpen) hub.#sessions.add(session);
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
      session.client.roundTripMs = roundTripMs;
      const { tenant, id: clientId } = session.client;
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

/** When the hub looks again at a queued command that was sent: its device had all the time it may take, and more. */
function dueAfterSending({ ttlMs, timeoutMs }: Command, acceptedAtMs: number, { resultWaitMs }: Settings): number {
  return acceptedAtMs + ttlMs + timeoutMs + resultWaitMs;
}

function supersede(coalesceKey: string, mailbox: Mailbox | undefined): NonNullable<AddOptions['supersede']> {
  if (!mailbox) return { ids: [], afterPosition: 0 };
  return { ids: mailbox.withCoalesceKey(coalesceKey).map(({ id }) => id), afterPosition: mailbox.loadedUpTo };
}

/** Whether `b` is a repetition of `a`: the same order for the same client. */
function isSame(a: Command, b: Command): boolean {
  return (
    a.tenant === b.tenant &&
    a.clientId === b.clientId &&
    a.whenOffline === b.whenOffline &&
    samePayload(a.payload, b.payload)
  );
}

function conflict(command: Command): HubError {
  const { id, idempotencyKey } = command;
  const by = idempotencyKey === undefined ? `id ${id}` : `id ${id} or idempotency key "${idempotencyKey}"`;
  return new HubError('idempotency-conflict', `another command was accepted with ${by}`, { commandId: id });
}
