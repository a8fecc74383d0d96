import { onTestFinished } from 'vitest';
import { connectDevice, type Device } from '../../../src/device/index.ts';
import { type GrpcTransport, grpcTransport } from '../../../src/grpc/index.ts';
import { submit } from './callers.ts';
import { Child } from './child.ts';
import type { CrowdOptions } from './crowd-process.ts';
import type { HubProcess } from './hub.ts';
import type { Probed, ProberOptions } from './prober-process.ts';
import { eventually } from './sizes.ts';
import { numbered } from './world.ts';

export interface CrowdSize {
  /** Devices, and as many browsers. */
  readonly count: number;
  /** Of each command. */
  readonly contentBytes: number;
  /** Told for the browsers in each round, of 2 KB each. */
  readonly events: number;
  /** Commands to the healthy device in each round, and as many events of it. */
  readonly probes: number;
  /** Browsers that do not read ask for all that is kept when they come back. Default: for what comes from now on. */
  readonly replays?: boolean;
}

/** As many devices as browsers, which read or do not, what is sent to them, and beside them a device that is well. */
export class Crowd {
  readonly #size: CrowdSize;
  readonly #hub: HubProcess;
  readonly #names: readonly string[];
  readonly #peers: Child;
  readonly #prober: Child;
  readonly #talker: Device;
  readonly #transport: GrpcTransport;
  #isReading = true;
  #rounds = 0;
  /** Events that the hub has taken from the talker. */
  #told = 0;

  private constructor(size: CrowdSize, hub: HubProcess, names: readonly string[], talker: Device) {
    this.#size = size;
    this.#hub = hub;
    this.#names = names;
    this.#talker = talker;
    this.#transport = grpcTransport({ address: hub.grpc });
    const { grpc, http } = hub;
    const channel = 'client.talker';
    this.#peers = new Child('crowd-process', {
      grpc,
      http,
      names,
      browsers: size.count,
      channel,
      replays: size.replays ?? false,
    } satisfies CrowdOptions);
    this.#prober = new Child('prober-process', { grpc, http, channel } satisfies ProberOptions);
  }

  /** Resolves once all are there. Belongs to a `World`, which ends the processes. */
  static async open(hub: HubProcess, size: CrowdSize): Promise<Crowd> {
    const talker = await connectDevice({ address: hub.grpc, clientId: 'talker' });
    const crowd = new Crowd(size, hub, numbered('crowd', size.count), talker);
    onTestFinished(async () => {
      await talker.close({ timeoutMs: 0 });
      await crowd.#transport.close();
    });
    await crowd.#prober.says('ready');
    await crowd.read();
    return crowd;
  }

  /** All read again. Resolves once they are back, and the hub holds nothing that was sent to them. */
  async read(): Promise<void> {
    this.#isReading = true;
    await this.#peers.ask('read', 'told');
    let missing = {};
    const isThere = async (): Promise<boolean> => {
      const { sessions, facts, outboxBytes } = await this.#hub.usage();
      const watching = await this.#peers.ask<number>('watching', 'watching');
      // Also told as ended: what the hub has forgotten, and a device that reads at last still does.
      const open = Math.max(0, openCommands(facts));
      missing = {
        sessions: this.#names.length + 2 - sessions,
        browsers: this.#size.count - watching,
        open,
        outboxBytes,
      };
      return Object.values(missing).every((count) => count === 0);
    };
    await eventually(() => `all of the crowd are back, but ${JSON.stringify(missing)}`, isThere);
  }

  /** From now on none of them reads, though they go on writing. */
  async stall(): Promise<void> {
    this.#isReading = false;
    await this.#peers.ask('stall', 'told');
  }

  /** From now on, until all are to read again, they hang up now and then and come back for more. */
  async comeAndGo(): Promise<void> {
    await this.#peers.ask('come and go', 'told');
  }

  /** Sends a command to each device of the crowd and tells events to its browsers, while the healthy ones are probed. */
  async round(): Promise<Probed> {
    const { contentBytes, events, probes } = this.#size;
    const round = this.#rounds++;
    const content = 'x'.repeat(contentBytes);
    // A connection carries 1,000 calls: those to devices that do not read end one after the other, and make room.
    const sends = this.#names.map((clientId, i) =>
      submit(
        this.#transport,
        { write: () => undefined },
        { clientId, content, live: true, timeoutMs: 5000 + i * 100, waitForConnectMs: 0 },
      ),
    );
    const noise = Array.from({ length: events }, (_, i) =>
      this.#talker.emit('noise', { round, i, pad: 'y'.repeat(4000) }),
    );
    const probed = await this.#prober.ask<Probed>(String(probes), 'probed');
    // A full buffer of the talker is its own affair.
    for (const { status } of await Promise.allSettled(noise)) if (status === 'fulfilled') this.#told++;
    await Promise.all(sends.map((send) => send.accepted));
    if (this.#isReading) await Promise.all(sends.map((send) => send.ended));
    return probed;
  }

  /** Resolves once the healthy browser has seen all that was told so far. */
  async seesAll(): Promise<void> {
    const seen = async () => (await this.#prober.ask<Probed>('1', 'probed')).others;
    await eventually(`the healthy browser sees ${this.#told} events`, async () => (await seen()) === this.#told);
  }
}

/** Commands that were accepted and are not over. */
export function openCommands(facts: Readonly<Record<string, number>>): number {
  return (facts['command-accepted'] ?? 0) - (facts['command-ended'] ?? 0);
}
