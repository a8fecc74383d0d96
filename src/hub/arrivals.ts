import { randomUUID } from 'node:crypto';
import { toHubError } from '../errors.ts';
import type { Hello } from '../protocol/gen/signalbox/v1/device.ts';
import { Arrival, olderOnes } from './arrival.ts';
import { checkHello } from './check-hello.ts';
import type { Client } from './client.ts';
import type { Claim, ClientClaims } from './client-claims.ts';
import type { CommandLife } from './command-life.ts';
import { contention } from './contention.ts';
import type { Departures } from './departures.ts';
import type { Settings } from './options.ts';
import type { Publisher } from './publisher.ts';
import type { Reconciliation } from './reconciliation.ts';
import { Lineage, type Session } from './session.ts';

type Entry = Pick<Claim, 'epoch' | 'lastEpoch'>;

/** What arrivals need of the hub around them. */
export interface ArrivalsHost {
  readonly settings: Settings;
  readonly life: CommandLife;
  readonly publisher: Publisher;
  readonly reconciliation: Reconciliation;
  readonly departures: Departures;
  readonly sessions: ReadonlySet<Session>;
  /** Set while the hub refuses devices, with the time after which they may come again. */
  readonly closingForMs: number | undefined;
  /** A stream has become a session. */
  opened(session: Session): void;
  clientFor(tenant: string, clientId: string): Client;
  released(client: Client): void;
  changed(client: Client): void;
}

/** Decides about hellos: who may come, who takes over from whom, and which session goes on. */
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
      clientId = checkHello(hello, session.identity);
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
      if (client.isLost) this.#host.departures.forsakeLater(client);
      this.#host.released(client);
    }
  }

  #enter(session: Session, client: Client, hello: Hello, claim: Entry): void {
    const old = client.session;
    if (old) this.#takeOver(client, old, hello);
    // It was elsewhere, and nobody has told.
    if (claim.lastEpoch > client.epoch) this.#host.departures.giveUpStored(client);
    this.#admit(session, client, hello, claim);
    session.catchUp();
  }

  /** The newest stream wins. The old one is told why, and the later to come back the more often this happens. */
  #takeOver(client: Client, old: Session, hello: Hello): void {
    const retryAfterMs = old.lineage.bootId === hello.bootId ? 0 : contention(client, this.#host.settings);
    old.end({
      reason: 'taken-over',
      message: `a newer stream of client ${client.id} took over`,
      mayReconnect: true,
      retryAfterMs,
    });
  }

  #refuseWhileClosing(session: Session, retryAfterMs: number): void {
    session.end({ reason: 'draining', message: 'the hub is shutting down', mayReconnect: true, retryAfterMs });
  }

  #admit(session: Session, client: Client, hello: Hello, { epoch, lastEpoch }: Entry): void {
    const { settings, publisher, life, reconciliation } = this.#host;
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
    if (isResumed) reconciliation.onResume(session);
    else reconciliation.onNewSession(session, client);
    publisher.presence('client.connected', client.info, nowMs);
    this.#host.changed(client);
    for (const arrived of [...client.awaiting]) arrived();
    client.pump();
  }
}
