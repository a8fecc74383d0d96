// The story that start.ts and demo.ts tell: what can be done with a hub and three pumps. Not an example itself.
import { spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { type CommandClient, commandClient, HubError } from 'signalbox';
import { type HubEvent, type Watch, watch } from 'signalbox/browser';
import { PumpServiceDefinition } from 'signalbox/example';
import type { SignalboxServer } from 'signalbox/server';
import { connectPump, type Pump } from './support.ts';
import type { Teller } from './teller.ts';

/** What a step of the story ends with. */
export interface Outcome {
  readonly ok: boolean;
  readonly text: string;
  readonly facts?: object;
}

export const pumpIds = ['pump-1', 'pump-2', 'pump-3'] as const;
export type PumpId = (typeof pumpIds)[number];
const sites: Record<PumpId, string> = { 'pump-1': 'north', 'pump-2': 'north', 'pump-3': 'south' };

/** The hub, its pumps, and a watcher that sees what a browser would see. */
export class Story {
  readonly #teller: Teller;
  readonly #server: SignalboxServer;
  readonly #pumps = new Map<PumpId, Pump>();
  readonly #rampMs: number;
  readonly #temperatureEveryMs: number;
  /** Ends of commands that the watcher saw. */
  readonly #seen = new Set<string>();
  #onSeen: () => void = () => undefined;
  #watch: Watch | undefined;

  constructor(
    server: SignalboxServer,
    teller: Teller,
    { rampMs, temperatureEveryMs }: { rampMs: number; temperatureEveryMs: number },
  ) {
    this.#server = server;
    this.#teller = teller;
    this.#rampMs = rampMs;
    this.#temperatureEveryMs = temperatureEveryMs;
  }

  get grpc(): string {
    return this.#server.grpc[0]!;
  }

  get http(): string {
    return this.#server.http[0]!;
  }

  /** Watches the fleet and the pumps over SSE, and tells what comes. */
  watch(): void {
    this.#watch = watch({
      url: this.http,
      channels: ['fleet', ...pumpIds.map((id) => `client.${id}`)],
      onEvent: (event) => this.#tell(event),
      onGap: ({ channel, from, to }) => this.#teller.happening(channel, 'gap', `events ${from} to ${to}`),
      onState: () => undefined,
    });
  }

  async connect(clientId: PumpId): Promise<Outcome> {
    const pump = await connectPump({
      address: this.grpc,
      clientId,
      labels: { site: sites[clientId], model: 'P2' },
      rampMs: this.#rampMs,
      temperatureEveryMs: this.#temperatureEveryMs,
    });
    this.#pumps.set(clientId, pump);
    const { state } = pump.device;
    const ok = state.kind === 'connected';
    return { ok, text: `${clientId} is connected`, facts: { clientId, state: state.kind } };
  }

  /** A command from this process: straight to the hub. */
  async startInProcess(clientId: PumpId, rpm: number): Promise<Outcome> {
    const { commandId } = await this.#run(clientId, `start ${rpm} rpm`, (pump, commandId) =>
      pump.start({ rpm }, { commandId, timeoutMs: 10_000 }),
    );
    const facts = { clientId, commandId, road: 'in process' };
    return { ok: true, text: `${clientId} started by a command from the hub's own process`, facts };
  }

  async stopInProcess(clientId: PumpId): Promise<void> {
    await this.#run(clientId, 'stop', (pump, commandId) => pump.stop({}, { commandId }));
  }

  /** Commands from another process: `backend-rpc.ts`, over the hub's RPC. */
  async callByRpc(clientId: PumpId): Promise<Outcome> {
    const script = path.join(import.meta.dirname, 'backend-rpc.ts');
    this.#teller.happening('process', 'backend-rpc.ts', `commands ${clientId} over gRPC`);
    const child = spawn(process.execPath, [script, clientId, this.grpc], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 20_000,
    });
    const lines: string[] = [];
    for (const stream of [child.stdout, child.stderr])
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        this.#teller.happening('process', 'says', line);
      });
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    const ok = code === 0 && lines.includes('stop: succeeded');
    return {
      ok,
      text: `${clientId} commanded by RPC from another process`,
      facts: { clientId, pid: child.pid, lines },
    };
  }

  /** A command for a pump that is away: stored, and delivered when it is back. */
  async queueForAbsent(clientId: PumpId): Promise<Outcome> {
    await this.#pumps.get(clientId)?.close();
    const commandId = crypto.randomUUID();
    const maxRpm = 2000 + Math.floor(Math.random() * 1000);
    await using pump = this.#client(clientId);
    this.#teller.happening(clientId, 'configUpdate', `maxRpm ${maxRpm}, queued while it is away`);
    const options = { commandId, whenOffline: 'queue', coalesceKey: 'config', idempotent: true } as const;
    const stored = await pump.configUpdate.send({ config: { maxRpm } }, options);
    await this.connect(clientId);
    for await (const update of this.#server.hub.watch('default', commandId)) {
      const facts = { clientId, commandId, stored: stored.state, state: update.state };
      if (update.state === 'succeeded' && stored.state === 'queued')
        return { ok: true, text: `${clientId} got its queued command when it came back`, facts };
    }
    return { ok: false, text: `${clientId} did not get its queued command`, facts: { clientId, commandId } };
  }

  /** A server-streaming method: an async iterable. */
  async tail(clientId: PumpId, lines: number): Promise<Outcome> {
    await using pump = this.#client(clientId);
    const texts: string[] = [];
    this.#teller.happening(clientId, 'tailLog', `${lines} lines`);
    for await (const { number, text } of pump.tailLog({ lines, intervalMs: 50 })) texts.push(`${number}: ${text}`);
    const ok = texts.length === lines;
    return { ok, text: `${clientId} streamed ${texts.length} log lines`, facts: { clientId, lines: texts } };
  }

  /** A command that is cancelled while it runs. */
  async cancel(clientId: PumpId): Promise<Outcome> {
    await using pump = this.#client(clientId);
    const aborter = new AbortController();
    let items = 0;
    this.#teller.happening(clientId, 'tailLog', 'without end, cancelled after two lines');
    try {
      for await (const _ of pump.tailLog({ lines: 10_000, intervalMs: 50 }, { signal: aborter.signal })) {
        items++;
        if (items === 2) aborter.abort();
      }
    } catch (error) {
      const { code, commandId } = error as HubError;
      const ok = error instanceof HubError && code === 'command-cancelled';
      return { ok, text: `${clientId} stopped a cancelled command`, facts: { clientId, commandId, code } };
    }
    return { ok: false, text: `${clientId} went on with a cancelled command`, facts: { clientId } };
  }

  /** Whether the watcher has seen the ends of these commands. */
  async seen(commandIds: readonly string[]): Promise<Outcome> {
    while (!commandIds.every((id) => this.#seen.has(id)))
      await new Promise<void>((resolve) => {
        this.#onSeen = resolve;
      });
    const facts = { commandIds, ends: this.#seen.size };
    return { ok: true, text: 'a watcher saw every update over SSE', facts };
  }

  /** Drains the hub: running commands may end, devices are told to come back later. Then everything is let go. */
  async end(): Promise<Outcome> {
    this.#watch?.close();
    await this.#server.close();
    await Promise.all([...this.#pumps.values()].map((pump) => pump.close({ timeoutMs: 500 })));
    return { ok: true, text: 'the hub has drained and everything is closed' };
  }

  #client(clientId: PumpId) {
    return commandClient(PumpServiceDefinition, { clientId, transport: this.#server.hub });
  }

  async #run<T>(
    clientId: PumpId,
    what: string,
    call: (pump: CommandClient<typeof PumpServiceDefinition>, commandId: string) => Promise<T>,
  ): Promise<{ commandId: string; result: T }> {
    await using pump = this.#client(clientId);
    const commandId = crypto.randomUUID();
    this.#teller.happening(clientId, what, 'in process');
    return { commandId, result: await call(pump, commandId) };
  }

  #tell({ channel, type, data }: HubEvent): void {
    const clientId = channel.replace(/^client\./, '');
    // Presence is in the channel of the client, too; once is enough for a reader.
    if (channel === 'fleet') return;
    const update = data as { commandId?: string; progress?: { fraction?: number; note?: string; item?: Shown } } & {
      result?: Shown;
      error?: { code: string; message: string };
    };
    const { progress, result, error } = update ?? {};
    const item = result ?? progress?.item;
    const parts = [
      progress?.fraction === undefined ? '' : `${Math.round(progress.fraction * 100)} %`,
      progress?.note ?? '',
      item?.json === undefined ? '' : JSON.stringify(item.json),
      error === undefined ? '' : `${error.code}: ${error.message}`,
      type.startsWith('command.') || type.startsWith('client.') ? '' : JSON.stringify(data),
    ];
    this.#teller.happening(clientId, `  ${type}`, parts.filter((part) => part !== '').join('  '));
    if (/^command\.(succeeded|failed|rejected|cancelled|expired|unknown)$/.test(type) && update.commandId) {
      this.#seen.add(update.commandId);
      this.#onSeen();
    }
  }
}

interface Shown {
  readonly type: string;
  readonly json?: unknown;
}
