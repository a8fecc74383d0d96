import { HubError } from '../errors.ts';
import { checkForeignChannel, checkForeignEventType, defaultTenant } from '../events/channels.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { uniqueId } from '../flow/unique-id.ts';
import { checkTenant } from '../protocol/checks.ts';
import { jsonOf, maxEventBytes } from './json-of.ts';
import { rollUp } from './roll-up.ts';
import { runChannel } from './run.ts';
import { channelPrefixOf, type StreamFence, type StreamSink, streamSink } from './stream-sink.ts';

export const logLevels = ['debug', 'info', 'warning', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** What a stream is about. Everything but `persistEvents` is also in each of its events, as `context`. */
export interface StreamContextFields {
  readonly workspaceId: string;
  readonly project: string;
  readonly env: string;
  readonly service: string;
  /** Whether events outlive the process that keeps them. Default: true. */
  readonly persistEvents?: boolean;
  /** Further fields: texts, numbers, booleans. */
  readonly [extra: string]: string | number | boolean | undefined;
}

/** A stream context as plain JSON: to be put into a queue, a message, a file. */
export interface StreamContextJson {
  readonly channelId: string;
  readonly channel: string;
  readonly tenant: string;
  readonly persistEvents: boolean;
  readonly context: Readonly<Record<string, string | number | boolean>>;
  readonly fence?: StreamFence | undefined;
}

export interface StreamContextOptions {
  /** Whose the stream is. Default: `default`. Over `initStreaming({ address })` it is the tenant of the token, whatever this says. */
  readonly tenant?: string;
  /** Name of the channel before the id. Default: what `initStreaming` was told, else `stream:`. */
  readonly channelPrefix?: string;
  /** Visible ASCII without `/ ? # * & , " \\`. Default: a new UUID. */
  readonly channelId?: string;
  /** Where events go. Default: where `initStreaming` says. */
  readonly sink?: StreamSink;
  readonly clock?: Clock;
}

/**
 * One stream of events, which can be made in a route, handed on as JSON, and written to anywhere: in another thread,
 * process or machine. `complete` ends it; whoever watches it then sees its end.
 */
export class StreamContext {
  /** The id of the stream. */
  readonly channelId: string;
  /** The name of its channel in the event log. */
  readonly channel: string;
  readonly tenant: string;
  readonly persistEvents: boolean;
  /** What goes into every event. */
  readonly debugContext: Readonly<Record<string, string | number | boolean>>;
  readonly #fence: StreamFence | undefined;
  readonly #sink: StreamSink | undefined;
  readonly #clock: Clock;
  #isClosed = false;

  /** A new stream. Throws `invalid-argument` naming the field at fault. */
  static create(fields: StreamContextFields, options: StreamContextOptions = {}): StreamContext {
    // Plain JavaScript may give nothing at all.
    const { persistEvents = true, ...context } = fields ?? {};
    for (const name of ['workspaceId', 'project', 'env', 'service'] as const)
      if (typeof context[name] !== 'string' || context[name] === '')
        throw new HubError(
          'invalid-argument',
          `a stream context needs ${name}, it is ${JSON.stringify(context[name])}`,
        );
    const { tenant = defaultTenant, channelPrefix = channelPrefixOf(options.sink), channelId = uniqueId() } = options;
    const channel = `${channelPrefix}${channelId}`;
    return new StreamContext({ channelId, channel, tenant, persistEvents, context: known(context) }, options);
  }

  /** The stream that `toJSON` wrote. Throws `invalid-argument` for anything else. */
  static fromJSON(json: unknown, options: Pick<StreamContextOptions, 'sink' | 'clock'> = {}): StreamContext {
    const given = (typeof json === 'string' ? parse(json) : json) as Partial<StreamContextJson> | null;
    if (typeof given !== 'object' || given === null || typeof given.channelId !== 'string')
      throw new HubError('invalid-argument', 'this is no stream context: it has no channelId');
    const { channelId, channel = '', tenant = '', persistEvents = true, context = {}, fence } = given;
    return new StreamContext({ channelId, channel, tenant, persistEvents, context, fence }, options);
  }

  /** @internal Made by `create`, `fromJSON`, and for runs of tasks. */
  constructor(json: StreamContextJson, { sink, clock = systemClock }: Pick<StreamContextOptions, 'sink' | 'clock'>) {
    // Of the hub's own channels only those of runs have streams, each under the claim of its run.
    if (json.fence === undefined) checkForeignChannel(json.channel);
    else if (json.channel !== runChannel(json.fence.runId))
      throw new HubError('invalid-argument', `"${json.channel}" is not the channel of run ${json.fence.runId}`);
    checkTenant(json.tenant);
    this.channelId = json.channelId;
    this.channel = json.channel;
    this.tenant = json.tenant;
    this.persistEvents = json.persistEvents;
    this.debugContext = json.context;
    this.#fence = json.fence;
    this.#sink = sink;
    this.#clock = clock;
  }

  /** `workspace_project_env_service`. */
  get namespace(): string {
    const { workspaceId, project, env, service } = this.debugContext;
    return [workspaceId, project, env, service].filter((part) => part !== undefined).join('_');
  }

  /** True once this object has completed the stream. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  toJSON(): StreamContextJson {
    const { channelId, channel, tenant, persistEvents, debugContext: context } = this;
    return { channelId, channel, tenant, persistEvents, context, ...(this.#fence && { fence: this.#fence }) };
  }

  /**
   * An event of your own. Resolves once it is kept; need not be waited for. Throws `invalid-argument` for a type that is the
   * hub's, and, as all of these, for what is no JSON or over 1 MiB of it; `unavailable` after `complete`.
   */
  emit(type: string, data: unknown): Promise<void> {
    checkOwnEventType(type);
    return this.#tell(type, { data });
  }

  /** A line for people. Throws `invalid-argument` for a level that is none. */
  log(message: string, level: LogLevel = 'info'): Promise<void> {
    if (!logLevels.includes(level))
      throw new HubError('invalid-argument', `there is no log level "${level}", only ${logLevels.join(', ')}`);
    return this.#tell('log', { level, message: String(message) });
  }

  /** `percent`: 0 to 100; what is beyond is cut off. */
  progress(percent: number, step?: string, message?: string): Promise<void> {
    if (!Number.isFinite(percent))
      throw new HubError('invalid-argument', `progress of ${percent} percent is no number`);
    return this.#tell('progress', { percent: Math.min(100, Math.max(0, percent)), step, message });
  }

  /** Tells of an error after which the stream goes on. */
  error(message: string, details?: unknown): Promise<void> {
    return this.#tell('error', { message: String(message), details });
  }

  /** Whatever else there is to tell. */
  data(data: unknown): Promise<void> {
    return this.#tell('data', { data });
  }

  /**
   * Tells what a source yields; texts are joined over `rollUpMs` (default 40, 0 to 500) and returned as one. Rejects with what
   * the source throws.
   */
  async pipe(source: AsyncIterable<unknown> | Iterable<unknown>, { rollUpMs = 40 } = {}): Promise<string> {
    let text = '';
    for await (const item of rollUp(source, { windowMs: rollUpMs, clock: this.#clock })) {
      if (typeof item === 'string') text += item;
      await this.data(item);
    }
    return text;
  }

  /**
   * The last event: `done`. What is told afterwards is refused with `unavailable`. Throws `permission-denied` for the
   * stream of a run: that ends when its task returns.
   */
  complete(success: boolean, error?: string, result?: unknown): Promise<void> {
    if (this.#fence)
      throw new HubError('permission-denied', `the stream of run ${this.#fence.runId} ends when its task returns`);
    const told = this.#tell('done', { success, error, result });
    this.#isClosed = true;
    return told;
  }

  /** A deployment begins: to which target, on how many servers. */
  deployStart(target: string, serverCount: number): Promise<void> {
    return this.#tell('deploy_start', { target, serverCount });
  }

  /** One server has it. */
  deploySuccess(ip: string, containerName?: string, url?: string): Promise<void> {
    return this.#tell('deploy_success', { ip, containerName, url });
  }

  /** One server has it not. */
  deployFailure(ip: string, error: string): Promise<void> {
    return this.#tell('deploy_failure', { ip, error });
  }

  #tell(type: string, fields: Record<string, unknown>): Promise<void> {
    if (this.#isClosed) throw new HubError('unavailable', `stream ${this.channelId} is complete: nothing comes after`);
    const { tenant, channel } = this;
    const event = {
      tenant,
      channel,
      type,
      json: jsonOf(
        { ...fields, context: this.debugContext },
        `event ${type} of stream ${this.channelId}`,
        maxEventBytes,
      ),
      atMs: this.#clock.now(),
      durable: this.persistEvents,
      fence: this.#fence,
    };
    const kept = (this.#sink ?? streamSink()).append(event);
    if (kept === undefined) return done;
    // Whoever does not wait for it does not fall over it either.
    kept.catch(() => undefined);
    return kept;
  }
}

const done = Promise.resolve();
/** Types that end or keep a stream, and are nobody's to emit. */
const closingTypes: ReadonlySet<string> = new Set(['done', 'ping']);

/** Throws `invalid-argument` unless it can be the type of an event that is not the hub's. */
export function checkOwnEventType(type: string): void {
  checkForeignEventType(type);
  if (closingTypes.has(type))
    throw new HubError('invalid-argument', `event type "${type}" is not to be emitted: the end of a stream says it`);
}

/** Whether it can be the type of an event that is not the hub's. */
export function isOwnEventType(type: string): boolean {
  try {
    checkOwnEventType(type);
    return true;
  } catch {
    return false;
  }
}

function known(fields: object): Record<string, string | number | boolean> {
  const entries = Object.entries(fields).filter(([, value]) => value !== undefined);
  for (const [name, value] of entries)
    if (!['string', 'number', 'boolean'].includes(typeof value))
      throw new HubError('invalid-argument', `stream context: ${name} has to be a text, a number or a boolean`);
  return Object.fromEntries(entries);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new HubError('invalid-argument', 'this is no stream context: it is no JSON', { cause: error });
  }
}
