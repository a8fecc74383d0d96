import { Alarm, type TimingWheel } from '../flow/timing-wheel.ts';
import type { Client } from './client.ts';
import type { CommandLife } from './command-life.ts';
import { contention } from './contention.ts';
import type { CloseReason } from './facts.ts';
import type { Settings } from './options.ts';
import type { Publisher } from './publisher.ts';
import type { Session } from './session.ts';

/** The hub that took a client over asks for its live commands within a second, or never. */
const yieldWaitMs = 3000;

/** What departures need of the hub around them. */
export interface DeparturesHost {
  readonly settings: Settings;
  readonly wheel: TimingWheel;
  readonly life: CommandLife;
  readonly publisher: Publisher;
  clientFor(tenant: string, clientId: string): Client;
  released(client: Client): void;
  changed(client: Client): void;
}

/** What becomes of a client whose stream ended, or that another hub holds, and of its commands. */
export class Departures {
  readonly #host: DeparturesHost;

  constructor(host: DeparturesHost) {
    this.#host = host;
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
    this.giveUpStored(client);
    if (session) {
      client.lastSeenAtMs = session.lastHeardAtMs;
      const message = `another node took over client ${client.id}`;
      session.end({
        reason: 'taken-over',
        message,
        mayReconnect: true,
        retryAfterMs: contention(client, this.#host.settings),
      });
      // Not told as an event: the node that took over tells that the client is there.
      this.#host.changed(client);
    }
    this.forsakeLater(client);
    this.#host.released(client);
  }

  /** What is stored for the client is another hub's, or was meanwhile: only the store knows what is left of it. */
  giveUpStored(client: Client): void {
    const { letGo } = this.#host.life;
    client.mailbox?.unload(letGo);
    for (const pending of [...client.inFlight]) if (pending.isQueued) letGo(pending);
    client.mailbox?.startOver();
  }

  /** What another hub that holds the client now does not ask for in time is given up. */
  forsakeLater(client: Client): void {
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
}
