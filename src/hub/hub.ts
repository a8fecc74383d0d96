import { toHubError } from '../errors.ts';
import { TimingWheel } from '../flow/timing-wheel.ts';
import { within } from '../flow/within.ts';
import type { Command, CommandRecord, CommandUpdate, TerminalUpdate } from '../protocol/command.ts';
import type { CommandTransport, TellOptions } from '../protocol/command-transport.ts';
import { Acknowledgements } from './acknowledgements.ts';
import { olderOnes } from './arrival.ts';
import { Arrivals } from './arrivals.ts';
import { Client } from './client.ts';
import type { ClaimedClient, HandedCommand } from './client-claims.ts';
import type { Clients } from './client-info.ts';
import { ClientTable } from './client-table.ts';
import { CommandLife } from './command-life.ts';
import type { CommandFilter, StoredCommand } from './command-store.ts';
import { Departures } from './departures.ts';
import type { DeviceIdentity, DeviceStream, DeviceStreamListener } from './device-stream.ts';
import { Drain, type DrainOptions } from './drain.ts';
import type { CloseReason } from './facts.ts';
import { Holds } from './holds.ts';
import { Inquiries } from './inquiries.ts';
import { dueAfterSending, Mailbox, type MailboxHost } from './mailbox.ts';
import { type HubOptions, type Settings, settingsFrom } from './options.ts';
import type { PendingCommand } from './pending-command.ts';
import { Publisher } from './publisher.ts';
import { Reconciliation } from './reconciliation.ts';
import { Reports } from './reports.ts';
import { Session } from './session.ts';
import { callerCancelled, Submissions } from './submissions.ts';
import { Sweep } from './sweep.ts';
import { EndReader } from './update-stream.ts';

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
  readonly #reconciliation: Reconciliation;
  readonly #departures: Departures;
  readonly #arrivals: Arrivals;
  readonly #submissions: Submissions;
  readonly #inquiries: Inquiries;
  readonly #reports: Reports;
  readonly #acknowledgements: Acknowledgements;
  readonly #sweep: Sweep | undefined;
  readonly #mailboxes: MailboxHost | undefined;
  readonly #sessions = new Set<Session>();
  /** Streams that have not said hello. */
  readonly #greeting = new Set<Session>();
  #drain: Drain | undefined;
  #closing: Promise<void> | undefined;

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
      stored: (commandId) => this.#inquiries.recallFromStore(commandId),
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
    const host = { node: settings.node, write: this.#write };
    const mailboxOf = mailboxes && ((client: Client) => new Mailbox(client, mailboxes));
    this.#directory = new ClientTable(
      settings.rememberedClients,
      (tenant, id) => new Client(tenant, id, host, mailboxOf),
    );
    this.#inquiries = new Inquiries(settings, this.#life, this.#directory);
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
    const around = {
      settings,
      wheel: this.#wheel,
      life: this.#life,
      publisher: this.#publisher,
      clientFor: (tenant: string, clientId: string) => this.#directory.getOrAdd(tenant, clientId),
      released: (client: Client) => this.#directory.released(client),
      changed: (client: Client) => this.#directory.changed(client),
    };
    this.#reconciliation = new Reconciliation({ life: this.#life, write: this.#write });
    this.#departures = new Departures(around);
    this.#arrivals = new Arrivals({
      ...around,
      reconciliation: this.#reconciliation,
      departures: this.#departures,
      sessions: this.#sessions,
      opened: (session) => {
        this.#greeting.delete(session);
        this.#sessions.add(session);
      },
      get closingForMs() {
        return hub.#drain?.retryAfterMs();
      },
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

  send(command: Command, options: TellOptions = {}): AsyncIterable<CommandUpdate> {
    return { [Symbol.asyncIterator]: () => this.#submissions.start(command, options) };
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
    options: { signal?: AbortSignal | undefined; clientId?: string | undefined } = {},
  ): AsyncIterable<CommandUpdate> {
    return { [Symbol.asyncIterator]: () => this.#inquiries.watch(tenant, commandId, options) };
  }

  /** What is known of one command. Throws `not-found` also for a command of another tenant. */
  get(tenant: string, commandId: string, { clientId }: { clientId?: string | undefined } = {}): Promise<CommandRecord> {
    return this.#inquiries.get(tenant, commandId, clientId);
  }

  /** Commands that are known, newest first: those in memory and those in the store. */
  list(filter: CommandFilter): Promise<CommandRecord[]> {
    return this.#inquiries.list(filter);
  }

  /**
   * Asks for a cancel. What was not sent is cancelled for certain; a device that has it is told to stop, and its
   * answer decides. Resolves to the newest update at that moment. Throws `not-found`, or `unavailable` when the end
   * of a stored command cannot be stored. `clientId`: as in `watch`.
   */
  cancel(
    tenant: string,
    commandId: string,
    reason: string,
    { clientId }: { clientId?: string | undefined } = {},
  ): Promise<CommandUpdate> {
    return this.#inquiries.cancel(tenant, commandId, reason, clientId);
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
    if (client) this.#departures.lost(client, epoch);
  }

  /**
   * As `lost`, for the hub that holds the client now: gives up its live commands, and tells what they are. Those that
   * are just being handed over to this hub go along; they are waited for, a little less than the asking hub waits.
   */
  async yield(tenant: string, clientId: string, epoch: number): Promise<HandedCommand[]> {
    const client = this.#directory.get(tenant, clientId);
    if (!client || client.epoch >= epoch) return [];
    this.#departures.lost(client, epoch);
    if (client.arriving.size > 0) await within(this.#settings.clock, olderOnes(client.arriving, epoch), yieldWithinMs);
    if (client.epoch >= epoch) return [];
    const handed = [...client.inFlight, ...client.live].map((pending) => this.#life.handOver(pending));
    this.#directory.released(client);
    this.#drain?.noteIdle();
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
  drain(options: DrainOptions = {}): Promise<void> {
    if (!this.#drain) {
      const host = {
        settings: this.#settings,
        wheel: this.#wheel,
        sessions: this.#sessions,
        greeting: this.#greeting,
        hasLive: () => this.#hasLive(),
        isBusy: ({ client: { tenant, id } }: Session) => this.#directory.get(tenant, id)?.isBusy ?? false,
      };
      this.#drain = new Drain(host, options);
      this.#submissions.refuseAwaiting();
    }
    return this.#drain.run();
  }

  /** Ends every stream and every live command, at once unless drained before. Calling it again changes nothing. */
  close(): Promise<void> {
    if (this.#closing) return this.#closing;
    const drained = this.drain({ timeoutMs: 0 });
    this.#drain?.cutShort();
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
    const pending = this.#life.recall(stored);
    const client = this.#directory.get(stored.command.tenant, stored.command.clientId);
    if (pending.journal === undefined || !client?.session) return pending;
    return this.#reconciliation.isToBeSent(pending, client.session, client) ? pending : undefined;
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

  readonly #failed = (operation: string, cause: unknown): void => {
    this.#settings.observe({ kind: 'store-failed', operation, message: toHubError(cause).message, cause });
  };

  #hasLive(): boolean {
    for (const pending of this.#life.registry.open()) if (!pending.isQueued) return true;
    return false;
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
      hub.#drain?.noteIdle();
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
    this.#departures.left(session, reason);
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
    this.#drain?.noteIdle();
  }
}

const maxUint32 = 2 ** 32 - 1;
/** Of the second that the other hub waits. */
const yieldWithinMs = 900;
