import { channelKey, clientChannel } from '../events/channels.ts';
import { StepChannel } from '../events/event-log.ts';
import { Deque } from '../flow/deque.ts';
import { RareSet } from '../flow/rare-set.ts';
import type { Arrival } from './arrival.ts';
import type { ClientInfo } from './client-info.ts';
import type { Mailbox, MailboxOwner } from './mailbox.ts';
import type { PendingCommand } from './pending-command.ts';
import type { Lineage, Session, SessionOwner } from './session.ts';

/** What a client needs of the hub to move its commands. */
export interface ClientHost {
  readonly node: string;
  /** Writes a command to the session, or ends it where it may not be sent any more. */
  write(session: Session, pending: PendingCommand): void;
}

/**
 * The hub's record of one device: its session, and the commands on their way to it. Commands leave in the order in
 * which they were accepted, live and queued alike, and no more of them are out than the device's window.
 */
export class Client implements SessionOwner, MailboxOwner {
  readonly tenant: string;
  readonly id: string;
  /** Its channel in the event log. */
  readonly channel: StepChannel;
  readonly #host: ClientHost;
  session: Session | undefined;
  /** Hellos that wait for a claim, or for what comes with it. */
  readonly arriving = new RareSet<Arrival>();
  /** Another hub has held it since, with this epoch. */
  lostToEpoch = 0;
  /** Of the newest session; kept a while after it was lost, for a resume. */
  lineage: Lineage | undefined;
  epoch = 0;
  labels: Readonly<Record<string, string>> = {};
  agent = '';
  peer = '';
  connectedAtMs: number | undefined;
  lastSeenAtMs: number | undefined;
  roundTripMs: number | undefined;
  /** Takeovers by another program that follow each other: how many, when the last one was (monotonic), what its loser was told. */
  fight: { readonly takeovers: number; readonly atMs: number; readonly retryAfterMs: number } | undefined;
  /** Written to the device, without result. In the order of writing. */
  readonly inFlight = new Deque<PendingCommand>();
  /** Written in an earlier session, to be written again before anything else. */
  readonly resend = new Deque<PendingCommand>();
  readonly live = new Deque<PendingCommand>();
  liveBytes = 0;
  /** The stored commands; undefined in a hub without a store. */
  readonly mailbox: Mailbox | undefined;
  /** Sends that wait for this client to connect. */
  readonly awaiting = new RareSet<() => void>();

  constructor(tenant: string, id: string, host: ClientHost, mailbox: ((client: Client) => Mailbox) | undefined) {
    this.tenant = tenant;
    this.id = id;
    this.channel = new StepChannel(channelKey(tenant, clientChannel(id)));
    this.#host = host;
    this.mailbox = mailbox?.(this);
  }

  /** Whether another hub has held it since it was here. */
  get isLost(): boolean {
    return this.session === undefined && this.lostToEpoch > this.epoch;
  }

  /** Whether a command is on its way to it. */
  get isBusy(): boolean {
    return this.inFlight.size > 0 || this.live.size > 0;
  }

  /** Whether nothing would be lost by forgetting it. */
  get isIdle(): boolean {
    return (
      !this.session &&
      !this.lineage &&
      this.inFlight.size === 0 &&
      this.live.size === 0 &&
      this.awaiting.size === 0 &&
      this.arriving.size === 0 &&
      !this.mailbox?.isBusy
    );
  }

  get info(): ClientInfo {
    const { tenant, id, epoch, labels, agent, peer, connectedAtMs, roundTripMs } = this;
    return {
      id,
      tenant,
      connected: this.session !== undefined,
      labels,
      epoch,
      connectedAtMs,
      lastSeenAtMs: this.session ? this.session.lastHeardAtMs : this.lastSeenAtMs,
      roundTripMs,
      pendingCommands: this.inFlight.size + this.live.size + (this.mailbox?.loaded ?? 0),
      node: this.#host.node,
      agent,
      peer,
    };
  }

  pushLive(pending: PendingCommand): void {
    pending.place = 'waiting';
    pending.after = this.mailbox?.newestPosition ?? 0;
    this.live.push(pending);
    this.liveBytes += pending.command.payload.value.length;
  }

  /** A queued command was stored for this client just now. */
  acceptStored(pending: PendingCommand): void {
    if (this.session && isLeft(pending)) this.mailbox?.accepted(pending);
  }

  /** A queued command was found in the store: perhaps nobody knew that it was there. */
  foundStored(pending: PendingCommand): void {
    if (this.session && isLeft(pending)) this.mailbox?.found(pending);
  }

  /** The store did not say whether it took a queued command: if it did, those that come after stay behind it. */
  unsureOfStored(): void {
    if (this.session) this.mailbox?.lookAgain();
  }

  /** Takes a command off the way to the device, wherever it stands. */
  remove(pending: PendingCommand): void {
    switch (pending.place) {
      case 'in-flight':
        this.inFlight.remove(pending);
        this.resend.remove(pending);
        this.lineage?.outbox.letGo(pending);
        break;
      case 'waiting':
        if (pending.isQueued) this.mailbox?.remove(pending);
        else if (this.live.remove(pending)) this.liveBytes -= pending.command.payload.value.length;
        break;
    }
    pending.place = 'shelf';
  }

  /** Tells the device to stop a command that it has. The frame is numbered: it is not lost with the stream. */
  cancel(pending: PendingCommand, reason: string): void {
    const { session } = this;
    if (!session?.isOpen) return;
    const body = { $case: 'cancel' as const, value: { commandId: pending.id, reason } };
    session.send(session.lineage.outbox.add(body), body);
  }

  /** Writes what can be written. Cheap when nothing can. */
  pump(): void {
    const { session } = this;
    if (!session) return;
    while (session.canSend) {
      const again = this.resend.first;
      if (again) {
        if (!this.#isMarked(again, session)) return;
        this.resend.shift();
        this.#host.write(session, again);
        continue;
      }
      // A device that tells results and never acknowledges would fill the outbox: it gets nothing more.
      if (this.inFlight.size >= session.window || session.lineage.outbox.size >= 2 * session.window + 64) return;
      const next = this.#next();
      if (!next) break;
      if (!this.#isMarked(next, session)) return;
      this.#shift(next);
      next.place = 'in-flight';
      this.inFlight.push(next);
      this.#host.write(session, next);
    }
    this.mailbox?.loadIfLow();
  }

  /** A stored command is marked as sent, on disk, before it is written: after a crash nobody has to guess. */
  #isMarked(pending: PendingCommand, session: Session): boolean {
    if (!pending.isQueued || pending.journal === session.journalId) return true;
    this.mailbox?.mark(session.journalId, pending);
    return false;
  }

  #next(): PendingCommand | undefined {
    const live = this.live.first;
    const { mailbox } = this;
    if (!mailbox) return live;
    const stored = mailbox.first;
    if (!live) return stored;
    if (stored) return stored.position! <= live.after ? stored : live;
    return mailbox.mayHold(live.after) ? undefined : live;
  }

  #shift(pending: PendingCommand): void {
    if (pending.isQueued) this.mailbox!.shift();
    else {
      this.live.shift();
      this.liveBytes -= pending.command.payload.value.length;
    }
  }
}

/** Whether a stored command is to go to its device, and is not on its way. */
const isLeft = (pending: PendingCommand): boolean =>
  pending.isQueued && pending.place === 'shelf' && !pending.hasEnded && !pending.isEnding;
