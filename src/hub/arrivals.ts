import { randomUUID } from 'node:crypto';
import { HubError, toHubError } from '../errors.ts';
import { Alarm, type TimingWheel } from '../flow/timing-wheel.ts';
import { checkClientId, checkLabels, limits } from '../protocol/checks.ts';
import { protocolVersion } from '../protocol/frames.ts';
import type { Hello } from '../protocol/gen/signalbox/v1/device.ts';
import { Arrival, olderOnes } from './arrival.ts';
import type { Client } from './client.ts';
import type { Claim, ClientClaims } from './client-claims.ts';
import type { CommandLife } from './command-life.ts';
import type { CloseReason } from './facts.ts';
import type { Settings } from './options.ts';
import { PendingCommand } from './pending-command.ts';
import type { Publisher } from './publisher.ts';
import { Lineage, type Session } from './session.ts';

/** The hub that took a client over asks for its live commands within a second, or never. */
const yieldWaitMs = 3000;
/** Takeovers of one client within this many ms count as a fight for its id. */
const contentionMs = 10_000;

type Entry = Pick<Claim, 'epoch' | 'lastEpoch'>;

/** What arrivals need of the hub around them. */
export interface ArrivalsHost {
  readonly settings: Settings;
  readonly wheel: TimingWheel;
  readonly life: CommandLife;
  readonly publisher: Publisher;
  readonly sessions: ReadonlySet<Session>;
  /** Set while the hub refuses devices, with the time after which they may come again. */
  readonly closingForMs: number | undefined;
  /** A stream has become a session. */
  opened(session: Session): void;
  clientFor(tenant: string, clientId: string): Client;
  released(client: Client): void;
  changed(client: Client): void;
  write(session: Session, pending: PendingCommand, seq?: number): void;
}

/** Decides about hellos: who may come, who takes over from whom, what goes on and what begins anew. */
export class Arrivals {
  readonly #host: ArrivalsHost;

  constructor(host: ArrivalsHost) {
    this.#host = host;
  }

  open(session: Session, hello: Hello): void {
    const { settings, closingForMs } = this.#host;
    if (closingForMs !== undefined) {
      this.#refuseWhileClosing(session, closingForMs);
      return;
    }
    if (this.#host.sessions.size >= settings.maxSessions) {
      const message = `the hub holds ${settings.maxSessions} streams, its limit`;
      session.end({ reason: 'overloaded', message, mayReconnect: true, retryAfterMs: 5000 });
      return;
    }
    let clientId: string;
    try {
      clientId = checkHello(hello, session);
    } catch (error) {
      const { code, message } = toHubError(error);
      const reason = code === 'permission-denied' ? 'permission-denied' : 'protocol-error';
      session.end({ reason, message, mayReconnect: false });
      return;
    }
    const client = this.#host.clientFor(session.identity.tenant, clientId);
    if (settings.claims) void this.#claim(session, client, hello, settings.claims);
    else {
      const epoch = Math.max(client.epoch + 1, settings.clock.now());
      this.#enter(session, client, hello, { epoch, lastEpoch: client.epoch });
    }
  }

  /** Another hub may hold the client, or want it at this moment: only the directory can say who has it. */
  async #claim(session: Session, client: Client, hello: Hello, claims: ClientClaims): Promise<void> {
    const { tenant, id: clientId } = client;
    session.hold();
    const arrival = new Arrival();
    client.arriving.add(arrival);
    try {
      const { labels, agent } = hello;
      const wanted = { tenant, clientId, labels, agent, peer: session.stream.peer };
      const claim = await claims.claim(wanted, Math.max(client.epoch, client.lostToEpoch));
      arrival.hasClaimed(claim.epoch);
      // In any case: whoever handed them over has let go of them.
      for (const one of await claim.handed) this.#host.life.takeOver(one, client);
      // What came with an earlier hello is this one's, too.
      await olderOnes(client.arriving, claim.epoch);
      const { closingForMs } = this.#host;
      if (session.isClosed || closingForMs !== undefined) {
        claims.release(tenant, clientId, claim.epoch);
        if (!session.isClosed) this.#refuseWhileClosing(session, closingForMs!);
      } else if (claim.epoch < Math.max(client.epoch, client.lostToEpoch))
        session.end({
          reason: 'taken-over',
          message: `a newer stream of client ${clientId} took over`,
          mayReconnect: true,
        });
      else this.#enter(session, client, hello, claim);
    } catch (error) {
      const message = `client ${clientId} cannot be claimed: ${toHubError(error).message}`;
      const retryAfterMs = Math.round(1000 + this.#host.settings.random() * 2000);
      session.end({ reason: 'overloaded', message, mayReconnect: true, retryAfterMs });
    } finally {
      client.arriving.delete(arrival);
      arrival.isOver();
      // What came too late for the hub that has the client since.
      if (client.isLost) this.#forsakeLater(client);
      this.#host.released(client);
    }
  }

  #enter(session: Session, client: Client, hello: Hello, claim: Entry): void {
    const old = client.session;
    if (old) this.#takeOver(client, old, hello);
    // It was elsewhere, and nobody has told.
    if (claim.lastEpoch > client.epoch) this.#giveUpStored(client);
    this.#admit(session, client, hello, claim);
    session.catchUp();
  }

  /**
   * Another hub holds this client now. Its stream here ends, if there is one; what is stored for it is that hub's, and
   * so are the live commands, if it asks for them.
   */
  lost(client: Client, epoch: number): void {
    if (client.epoch >= epoch) return;
    client.lostToEpoch = Math.max(client.lostToEpoch, epoch);
    const { session } = client;
    client.session = undefined;
    client.lineage = undefined;
    client.connectedAtMs = undefined;
    this.#giveUpStored(client);
    if (session) {
      client.lastSeenAtMs = session.lastHeardAtMs;
      const message = `another node took over client ${client.id}`;
      session.end({ reason: 'taken-over', message, mayReconnect: true, retryAfterMs: this.#contention(client) });
      // Not told as an event: the node that took over tells that the client is there.
      this.#host.changed(client);
    }
    this.#forsakeLater(client);
    this.#host.released(client);
  }

  /** What is stored for the client is another hub's, or was meanwhile: only the store knows what is left of it. */
  #giveUpStored(client: Client): void {
    const { letGo } = this.#host.life;
    client.mailbox?.unload(letGo);
    for (const pending of [...client.inFlight]) if (pending.isQueued) letGo(pending);
    client.mailbox?.startOver();
  }

  #forsakeLater(client: Client): void {
    const epoch = client.lostToEpoch;
    if (client.isBusy) this.#host.wheel.set(new Alarm(() => this.#forsake(client, epoch)), yieldWaitMs);
  }

  /** Nobody has asked for what was sent to the client from here: those who wait for it look for it where the client is. */
  #forsake(client: Client, epoch: number): void {
    if (!client.isLost || client.lostToEpoch > epoch) return;
    for (const pending of [...client.inFlight, ...client.live])
      if (!pending.isQueued && pending.journal !== undefined) this.#host.life.letGo(pending);
    this.#host.released(client);
  }

  /** The end of an open session: its client is away, and may come back to where it was. */
  left(session: Session, reason: CloseReason): void {
    const { epoch } = session;
    const client = this.#host.clientFor(session.client.tenant, session.client.id);
    if (client.session !== session) return;
    const { settings, wheel, publisher, life } = this.#host;
    client.lastSeenAtMs = session.lastHeardAtMs;
    client.session = undefined;
    client.connectedAtMs = undefined;
    client.mailbox?.unload(life.shelve);
    settings.claims?.release(client.tenant, client.id, session.epoch);
    // By its epoch: the alarm must not keep what a session held that nobody can resume any more.
    const forget = (): void => {
      if (client.epoch !== epoch || client.session) return;
      client.lineage = undefined;
      this.#host.released(client);
    };
    // A device that said goodbye starts anew; one that was lost may be back in a moment.
    if (reason === 'disconnected' || settings.resumeWindowMs === 0) forget();
    else wheel.set(new Alarm(forget), settings.resumeWindowMs);
    // Nobody can tell any more whether these could have been delivered: wait for the device, or for their deadline.
    publisher.presence('client.disconnected', client.info, settings.clock.now(), reason);
    this.#host.changed(client);
  }

  /** What to do with a command that was on its way to the device when an earlier stream ended. */
  verdict(pending: PendingCommand, session: Session): 'wait' | 'again' | 'cancelled' | 'unknown' {
    if (session.begun.has(pending.id)) return 'wait';
    const isSurelyNotBegun =
      pending.journal === undefined || (pending.journal === session.journalId && !pending.isStarted);
    const mayRunAgain = isSurelyNotBegun || pending.command.idempotent;
    if (!mayRunAgain) return 'unknown';
    return pending.cancelReason === undefined ? 'again' : 'cancelled';
  }

  /** Carries out the verdict on one command that is not to be sent again. */
  settle(pending: PendingCommand, verdict: 'wait' | 'cancelled' | 'unknown', client: Client): void {
    const { life } = this.#host;
    if (verdict === 'wait') {
      if (pending.place !== 'in-flight') client.inFlight.push(pending);
      pending.place = 'in-flight';
      if (pending.cancelReason !== undefined) client.cancel(pending, pending.cancelReason);
    } else if (verdict === 'cancelled')
      void life.endWith(pending, 'cancelled', { code: 'cancelled', message: pending.cancelReason ?? '' });
    else
      void life.endWith(pending, 'unknown', {
        code: 'outcome-unknown',
        message: 'the device came back without its journal; the command was sent and may have been run',
      });
  }

  /** The newest stream wins. The old one is told why, and the later to come back the more often this happens. */
  #takeOver(client: Client, old: Session, hello: Hello): void {
    const retryAfterMs = old.lineage.bootId === hello.bootId ? 0 : this.#contention(client);
    old.end({
      reason: 'taken-over',
      message: `a newer stream of client ${client.id} took over`,
      mayReconnect: true,
      retryAfterMs,
    });
  }

  /** How long a stream that lost its client to another program is to stay away, in ms. */
  #contention(client: Client): number {
    const { settings } = this.#host;
    const now = settings.clock.monotonic();
    client.takeovers = [...client.takeovers.filter((at) => now - at < contentionMs), now].slice(-32);
    const takeovers = client.takeovers.length;
    const retryAfterMs = Math.min(60_000, 1000 * 2 ** (takeovers - 1));
    if (takeovers >= 3)
      settings.observe({
        kind: 'client-contended',
        tenant: client.tenant,
        clientId: client.id,
        takeovers,
        retryAfterMs,
      });
    return retryAfterMs;
  }

  #refuseWhileClosing(session: Session, retryAfterMs: number): void {
    session.end({ reason: 'draining', message: 'the hub is shutting down', mayReconnect: true, retryAfterMs });
  }

  #admit(session: Session, client: Client, hello: Hello, { epoch, lastEpoch }: Entry): void {
    const { settings, publisher, life } = this.#host;
    const nowMs = settings.clock.now();
    const { resume } = hello;
    const kept = client.lineage;
    const isResumed =
      kept !== undefined &&
      // Nobody else has had the device since.
      lastEpoch === client.epoch &&
      !kept.isLossy &&
      resume?.session === kept.id &&
      hello.bootId === kept.bootId &&
      kept.outbox.reachesBackTo(resume.lastSeq);
    const lineage = isResumed ? kept : new Lineage(randomUUID(), hello.bootId);
    const window = Math.min(hello.window || settings.window, settings.window);
    client.epoch = epoch;
    client.lineage = lineage;
    client.session = session;
    client.labels = hello.labels;
    client.agent = hello.agent;
    client.peer = session.stream.peer;
    client.connectedAtMs = nowMs;
    client.roundTripMs = undefined;
    session.open(client, lineage, epoch, hello, window);
    this.#host.opened(session);
    settings.observe({
      kind: 'session-opened',
      tenant: client.tenant,
      clientId: client.id,
      epoch,
      resumed: isResumed,
      peer: client.peer,
    });
    if (isResumed) lineage.outbox.acknowledge(resume!.lastSeq, life.delivered);
    session.send(0, {
      $case: 'welcome',
      value: {
        session: lineage.id,
        epoch,
        resumed: isResumed,
        lastSeq: lineage.intake.received,
        heartbeatMs: settings.ping === 'off' ? 0 : settings.heartbeatMs,
        livenessMs: settings.livenessMs,
        maxFrameBytes: settings.maxPayloadBytes,
        node: settings.node,
        clientId: client.id,
        atMs: nowMs,
      },
    });
    if (isResumed) this.#repeat(session);
    else this.#reconcile(session, client);
    publisher.presence('client.connected', client.info, nowMs);
    this.#host.changed(client);
    for (const arrived of [...client.awaiting]) arrived();
    client.pump();
  }

  /** The session goes on: the device is given again what it has not acknowledged. */
  #repeat(session: Session): void {
    for (const { seq, frame } of session.lineage.outbox.unacknowledged())
      if (frame instanceof PendingCommand) this.#host.write(session, frame, seq);
      else session.send(seq, frame);
  }

  /** A new session: each command that was out is waited for, sent again, or given up, by what the device's journal says. */
  #reconcile(session: Session, client: Client): void {
    const verdicts = [...client.inFlight]
      .filter(({ isEnding }) => !isEnding)
      .map((pending) => ({ pending, verdict: this.verdict(pending, session) }));
    // First in line before anything ends: an end makes room in the window, and the next command takes it at once.
    client.resend.clear();
    client.resend.unshift(verdicts.filter(({ verdict }) => verdict === 'again').map(({ pending }) => pending));
    for (const { pending, verdict } of verdicts) if (verdict !== 'again') this.settle(pending, verdict, client);
  }
}

/** The client id that this hello may use. Throws `invalid-argument` or `permission-denied`. */
function checkHello(hello: Hello, session: Session): string {
  if (hello.protocol !== protocolVersion)
    throw new HubError('invalid-argument', `protocol ${hello.protocol} is not spoken here, ${protocolVersion} is`);
  const { clientId: allowed } = session.identity;
  const clientId = hello.clientId === '' && allowed !== undefined ? allowed : hello.clientId;
  checkClientId(clientId);
  if (allowed !== undefined && clientId !== allowed)
    throw new HubError('permission-denied', `client id "${clientId}" is not the credential's, "${allowed}"`);
  for (const [name, value] of [
    ['boot id', hello.bootId],
    ['journal id', hello.journalId],
  ] as const)
    if (value.length === 0 || value.length > limits.keyLength)
      throw new HubError(
        'invalid-argument',
        `${name} has ${value.length} characters, it needs 1 to ${limits.keyLength}`,
      );
  if (hello.agent.length > limits.labelLength)
    throw new HubError(
      'invalid-argument',
      `agent has ${hello.agent.length} characters, the limit is ${limits.labelLength}`,
    );
  checkLabels(hello.labels);
  return clientId;
}
