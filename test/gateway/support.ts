import { connect, type Socket } from 'node:net';
import { openAuthenticator } from '../../src/auth/open-authenticator.ts';
import { HubError } from '../../src/errors.ts';
import { channelKey, clientChannel, commandChannel } from '../../src/events/channels.ts';
import type { EventLog } from '../../src/events/event-log.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { type Gateway, type GatewayHub, type GatewayOptions, serveGateway } from '../../src/gateway/index.ts';
import type { ClientInfo } from '../../src/hub/client-info.ts';
import type { Command, CommandRecord, CommandUpdate } from '../../src/protocol/command.ts';

/** A hub whose commands do what the test says. */
export class FakeHub implements GatewayHub {
  readonly sent: Command[] = [];
  readonly cancelled: string[] = [];
  readonly records = new Map<string, CommandRecord>();
  readonly infos = new Map<string, ClientInfo>();
  readonly log: EventLog;
  /** What becomes of a command. Default: it succeeds. */
  script: (command: Command) => AsyncIterable<CommandUpdate> = succeed;

  constructor(log: EventLog) {
    this.log = log;
    this.addClient('pump-7');
  }

  addClient(id: string, labels: Record<string, string> = {}, connected = true): void {
    this.infos.set(id, {
      id,
      tenant: 'default',
      connected,
      labels,
      epoch: 1,
      connectedAtMs: connected ? 1000 : undefined,
      lastSeenAtMs: 1000,
      roundTripMs: undefined,
      pendingCommands: 0,
      node: 'hub',
      agent: 'test',
      peer: 'test',
    });
  }

  readonly clients: GatewayHub['clients'] = {
    list: (tenant, filter) =>
      [...this.infos.values()].filter(
        (info) =>
          info.tenant === tenant &&
          (filter?.connectedOnly !== true || info.connected) &&
          Object.entries(filter?.labels ?? {}).every(([key, value]) => info.labels[key] === value),
      ),
    get: (tenant, id) => (tenant === 'default' ? this.infos.get(id) : undefined),
    onChange: () => () => undefined,
    disconnect: (_, id) => this.infos.get(id)?.connected === true,
  };

  async *send(command: Command): AsyncGenerator<CommandUpdate> {
    this.sent.push(command);
    // Leaving the loop stops the watching, not the command.
    const updates: CommandUpdate[] = [];
    let wake = (): void => undefined;
    let end: { error?: unknown } | undefined;
    const run = async (): Promise<void> => {
      for await (const update of this.script(command)) {
        this.tell(command, update);
        updates.push(update);
        wake();
      }
    };
    run().then(
      () => {
        end = {};
        wake();
      },
      (error: unknown) => {
        end = { error };
        wake();
      },
    );
    for (;;) {
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      while (updates.length > 0) yield updates.shift()!;
      if (end?.error !== undefined) throw end.error;
      if (end !== undefined) return;
      await woken;
    }
  }

  /** As the hub does it: remembers the newest update and puts it into the channels. */
  tell(command: Command, update: CommandUpdate): void {
    this.records.set(command.id, { command, acceptedAtMs: 1000, last: update });
    const event = { type: `command.${update.state}`, atMs: update.atMs, data: { ...update }, durable: false };
    for (const name of [clientChannel(command.clientId), commandChannel(command.id)])
      void this.log.append(channelKey(command.tenant, name), event);
  }

  async get(tenant: string, id: string): Promise<CommandRecord> {
    const record = this.records.get(id);
    if (record === undefined || record.command.tenant !== tenant)
      throw new HubError('not-found', `there is no command "${id}"`);
    return record;
  }

  async list(): Promise<CommandRecord[]> {
    return [...this.records.values()].reverse();
  }

  async cancel(tenant: string, id: string): Promise<CommandUpdate> {
    this.cancelled.push(id);
    return (await this.get(tenant, id)).last;
  }
}

export function updateOf(command: Command, more: object): CommandUpdate {
  return { commandId: command.id, clientId: command.clientId, atMs: 1000, ...more } as CommandUpdate;
}

export async function* succeed(command: Command): AsyncGenerator<CommandUpdate> {
  yield updateOf(command, { state: 'queued' });
  yield updateOf(command, { state: 'delivered' });
  yield updateOf(command, { state: 'succeeded', result: { type: 'test.Pong', value: Buffer.from('pong') } });
}

export interface Rig extends AsyncDisposable {
  readonly gateway: Gateway;
  readonly hub: FakeHub;
  readonly log: EventLog;
  readonly url: string;
  readonly port: number;
  append(name: string, type: string, data: unknown): void;
}

export async function rig(options: Partial<GatewayOptions> = {}): Promise<Rig> {
  const log = options.log ?? memoryEventLog();
  const hub = new FakeHub(log);
  const gateway = await serveGateway({
    hub,
    log,
    authenticator: openAuthenticator(),
    addresses: ['127.0.0.1:0'],
    ...options,
  });
  const url = gateway.urls[0]!;
  return {
    gateway,
    hub,
    log,
    url,
    port: Number(url.split(':').at(-1)),
    append: (name, type, data) =>
      void log.append(channelKey('default', name), { type, atMs: 1000, data, durable: false }),
    async [Symbol.asyncDispose]() {
      await gateway.close({ timeoutMs: 1000 });
      await log.close();
    },
  };
}

export interface SseEvent {
  readonly name: string;
  readonly id: string;
  readonly data: string;
  readonly retry?: number;
  readonly comments: readonly string[];
}

/** Reads an event stream as a browser does, by the letter of the standard (a lone CR ends a line too). */
export class SseReader {
  readonly response: Response;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #leave: AbortController;
  #text = '';
  #id = '';

  constructor(response: Response, leave: AbortController) {
    this.response = response;
    this.#leave = leave;
    this.#reader = response.body!.getReader();
  }

  /** The next block, also one without data; undefined at the end of the stream. */
  async next(): Promise<SseEvent | undefined> {
    for (;;) {
      const match = /(\r\n|\n|\r)(\r\n|\n|\r)/.exec(this.#text);
      if (match !== null) {
        const block = this.#text.slice(0, match.index);
        this.#text = this.#text.slice(match.index + match[0].length);
        return this.#parse(block);
      }
      const { done, value } = await this.#reader.read();
      if (done) return undefined;
      this.#text += Buffer.from(value).toString();
    }
  }

  /** The next event that has data. */
  async event(): Promise<SseEvent> {
    for (;;) {
      const next = await this.next();
      if (next === undefined) throw new Error('the stream has ended');
      if (next.data !== '') return next;
    }
  }

  async rest(): Promise<SseEvent[]> {
    const events: SseEvent[] = [];
    for (let next = await this.next(); next !== undefined; next = await this.next()) events.push(next);
    return events;
  }

  leave(): void {
    this.#leave.abort();
  }

  #parse(block: string): SseEvent {
    const event = {
      name: 'message',
      id: '',
      data: '',
      comments: [] as string[],
      retry: undefined as number | undefined,
    };
    for (const line of block.split(/\r\n|\n|\r/)) {
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line)!;
      if (field === '' && line.startsWith(':')) event.comments.push(value!);
      if (field === 'event') event.name = value!;
      if (field === 'id') this.#id = value!;
      if (field === 'data') event.data += event.data === '' ? value! : `\n${value}`;
      if (field === 'retry') event.retry = Number(value);
    }
    const { retry, ...rest } = event;
    return { ...rest, id: this.#id, ...(retry === undefined ? {} : { retry }) };
  }
}

export async function watch(url: string, init: RequestInit = {}): Promise<SseReader> {
  const leave = new AbortController();
  return new SseReader(await fetch(url, { ...init, signal: leave.signal }), leave);
}

/** Sends bytes as they are and resolves to all that comes back. */
export function raw(port: number, text: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(port, '127.0.0.1', () => socket.write(text));
    let answer = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      answer += chunk;
    });
    socket.once('close', () => resolve(answer));
    socket.once('error', reject);
  });
}
