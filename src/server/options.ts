import { availableParallelism } from 'node:os';
import * as z from 'zod';
import { HubError, toHubError } from '../errors.ts';
import { didYouMean } from '../schemas/index.ts';
import { parseAddress } from './addresses.ts';
import { type PresetName, presets, type Tuning } from './presets.ts';

const roles = ['all', 'hub', 'worker'] as const;
/** What a process does. */
export type Role = (typeof roles)[number];
const taskEngines = ['own', 'bullmq'] as const;
export type TaskEngineName = (typeof taskEngines)[number];

/** What `serve` can be told. Everything has a default; the same names stand in `signalbox.config.json`. */
export interface ServeOptions extends Partial<Tuning> {
  /** Where devices and callers connect: `host:port` or `unix:///path`, one or several. Default: `127.0.0.1:50051`. */
  grpc?: string | readonly string[] | false;
  /** Where browsers and scripts connect. Default: `127.0.0.1:8080`. */
  http?: string | readonly string[] | false;
  /** Directory of the store, or `:memory:` to keep nothing. Default: `.signalbox`. */
  data?: string;
  /**
   * Who may come in. `none`: anybody, on loopback and Unix sockets only. `jwt`: bearers of a token. `mtls`: devices and
   * callers with a certificate of `tlsCa`. Default: `jwt` if a secret or a JWKS is given, else `none`.
   */
  auth?: 'none' | 'jwt' | 'mtls';
  /** File with the secret that signs tokens. Default, with `auth: 'jwt'`: `jwt.secret` in the data directory, made once. */
  authSecretFile?: string;
  /** https URL of the key set of whoever issues the tokens, instead of a secret. */
  authJwks?: string;
  /** The tokens' `iss`. Default: `signalbox`. */
  authIssuer?: string;
  /** The tokens' `aud`. Default: `signalbox`. */
  authAudience?: string;
  /** PEM files: the server's certificate (with its chain), its key, and the authority of clients' certificates. */
  tlsCert?: string;
  tlsKey?: string;
  tlsCa?: string;
  /** Host names under which the gateway is reached, beside its own addresses. Default: none. */
  hosts?: readonly string[];
  /** Origins of web pages that may use the gateway, beside its own. Default: none. */
  origins?: readonly string[];
  /** A tuning by name. Default: `production`. */
  preset?: PresetName;
  /** Name of this process among several. Default: the machine's name and the process id. */
  node?: string;
  /**
   * The Redis that several nodes share: `redis://[user:password@]host:6379[/db]`, `rediss://` for TLS,
   * `redis+sentinel://host:26379,host:26379/name` behind Sentinel. Default: `REDIS_URL`; without it this process is alone, and keeps its state in `data`.
   */
  redis?: string;
  /** What our keys in Redis begin with. Default: `signalbox`. */
  redisPrefix?: string;
  /** What "stored" means with Redis: `stored` in its log, `replicated` to a replica too, or `none`. Default: `stored`. */
  redisDurability?: 'stored' | 'replicated' | 'none';
  /** A Redis that is not there at the start is waited for, at most so many ms. Default: 30000. */
  redisWaitMs?: number;
  /** File with the secret by which nodes know each other, 32 bytes or more. Default: made once, and kept in Redis. */
  clusterSecretFile?: string;
  /** PEM file: the authority of the other nodes' certificates, where the gRPC server has TLS. Default: the system's. */
  clusterCa?: string;
  /** Where the other nodes reach this one: `host:port`. Default: the first gRPC address, or this machine's. */
  advertise?: string;
  /** What a node holds is given to others when it was not heard of for this long, in ms. Default: 10000. */
  nodeLeaseMs?: number;
  /** Most time that running work has to end in a drain, in ms. Default: 20000. */
  drainTimeoutMs?: number;
  /** When devices may come back after a drain, in ms, and over how long they are spread. Default: 1000 and 5000. */
  drainReconnectAfterMs?: number;
  drainSpreadMs?: number;
  /** URL of the OpenSearch that keeps an archive of events, `https://host:9200`. Default: `OPENSEARCH_HOST` and its like. */
  opensearch?: string;
  /** Who one is there: `aws` signs with the `AWS_*` variables. Default: `basic` with a user name, else `none`. */
  opensearchAuth?: 'none' | 'basic' | 'aws';
  opensearchUsername?: string;
  opensearchPassword?: string;
  /** Begins the names of data stream, template and policy. Default: `stream_events`. */
  opensearchPrefix?: string;
  /**
   * What this process does. `all`: everything. `hub`: runs of tasks are left to workers. `worker`: runs of tasks and nothing
   * else; needs `redis`, and `http` only where its health and metrics are to be asked for. Default: `all`.
   */
  role?: Role;
  /** Modules that define tasks (`defineTask`): paths of `.ts` or `.js` files. Default: none. */
  tasks?: readonly string[];
  /** Runs of tasks at once in this process. Default: 50. */
  taskConcurrency?: number;
  /**
   * What brings runs to the workers of all nodes. `own`: messages over Redis. `bullmq`: a queue of BullMQ in the same
   * Redis, for those who run it already (`npm install bullmq`). Needs `redis`. Default: `own`.
   */
  taskEngine?: TaskEngineName;
  /** Threads and processes for tasks that want one. Default: as many of each as the machine has cores. */
  taskThreads?: number;
  taskProcesses?: number;
  /** Connections that each gRPC address takes: above it they are closed at once. A device has one. Default: 20000. */
  maxConnections?: number;
  /** Largest message that is taken in, in bytes. Default: 1 MiB. */
  maxMessageBytes?: number;
  /** A quiet event stream (SSE) gets a comment after this many ms. Default: 15000. */
  sseKeepaliveMs?: number;
  /** An event stream without any event for this many ms ends with `hub.idle`. Default: 0, never. */
  sseIdleLimitMs?: number;
}

/** Options with every default filled in. */
export interface ResolvedOptions extends Tuning {
  readonly grpc: readonly string[];
  readonly http: readonly string[];
  readonly data: string;
  readonly auth: 'none' | 'jwt' | 'mtls';
  readonly authSecretFile: string | undefined;
  readonly authJwks: string | undefined;
  readonly authIssuer: string;
  readonly authAudience: string;
  readonly tlsCert: string | undefined;
  readonly tlsKey: string | undefined;
  readonly tlsCa: string | undefined;
  readonly hosts: readonly string[];
  readonly origins: readonly string[];
  readonly preset: PresetName;
  readonly node: string | undefined;
  readonly redis: string | undefined;
  readonly redisPrefix: string;
  readonly redisDurability: 'stored' | 'replicated' | 'none';
  readonly redisWaitMs: number;
  readonly clusterSecretFile: string | undefined;
  readonly clusterCa: string | undefined;
  readonly advertise: string | undefined;
  readonly nodeLeaseMs: number;
  readonly drainTimeoutMs: number;
  readonly drainReconnectAfterMs: number;
  readonly drainSpreadMs: number;
  readonly opensearch: string | undefined;
  readonly opensearchAuth: 'none' | 'basic' | 'aws';
  readonly opensearchUsername: string | undefined;
  readonly opensearchPassword: string | undefined;
  readonly opensearchPrefix: string;
  readonly role: Role;
  readonly tasks: readonly string[];
  readonly taskConcurrency: number;
  readonly taskEngine: TaskEngineName;
  readonly taskThreads: number;
  readonly taskProcesses: number;
  readonly maxConnections: number;
  readonly maxMessageBytes: number;
  readonly sseKeepaliveMs: number;
  readonly sseIdleLimitMs: number;
}

const addresses = z.unknown().transform((value, context): string[] | false => {
  if (value === false) return false;
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const refuse = (message: string): void => context.addIssue({ code: 'custom', message });
  if (list.length === 0) refuse('an empty list serves nothing; write false to switch it off');
  for (const each of list)
    try {
      parseAddress(String(each));
    } catch (error) {
      refuse(toHubError(error).message);
    }
  return list.map(String);
});
const ms = (least: number, most = 2 ** 31 - 1) => z.number().int().min(least).max(most);
const count = (most: number) => z.number().int().min(1).max(most);
const bytes = z.number().int().min(1024);
const text = z.string().min(1).max(4096);

const schema = z.strictObject({
  grpc: addresses.optional(),
  http: addresses.optional(),
  data: text.optional(),
  auth: z.enum(['none', 'jwt', 'mtls']).optional(),
  authSecretFile: text.optional(),
  authJwks: z.url({ protocol: /^https$/, error: 'must be an https URL' }).optional(),
  authIssuer: text.optional(),
  authAudience: text.optional(),
  tlsCert: text.optional(),
  tlsKey: text.optional(),
  tlsCa: text.optional(),
  hosts: z.array(text).max(100).optional(),
  origins: z.array(z.url()).max(100).optional(),
  preset: z.enum(Object.keys(presets) as [PresetName, ...PresetName[]]).optional(),
  node: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1 to 64 of A-Z a-z 0-9 . _ -')
    .optional(),
  redis: z
    .string()
    .regex(
      /^(rediss?|unix|redis\+sentinel):\/\//,
      'must be redis://host:port, rediss://host:port, redis+sentinel://host:port/name or unix:///path',
    )
    .optional(),
  redisPrefix: z
    .string()
    .regex(/^[A-Za-z0-9_.:-]{1,64}$/, 'must be 1 to 64 of A-Z a-z 0-9 _ . : -')
    .optional(),
  redisDurability: z.enum(['stored', 'replicated', 'none']).optional(),
  redisWaitMs: ms(0, 3_600_000).optional(),
  clusterSecretFile: text.optional(),
  clusterCa: text.optional(),
  advertise: z
    .string()
    .regex(/^(unix:\/\/\/.+|(\[[^\]]+\]|[^:/\s]+):[1-9]\d{0,4})$/, 'must be host:port')
    .optional(),
  nodeLeaseMs: ms(500, 600_000).optional(),
  drainTimeoutMs: ms(0, 3_600_000).optional(),
  drainReconnectAfterMs: ms(0, 3_600_000).optional(),
  drainSpreadMs: ms(0, 3_600_000).optional(),
  opensearch: z.url({ protocol: /^https?$/, error: 'must be an http(s) URL' }).optional(),
  opensearchAuth: z.enum(['none', 'basic', 'aws']).optional(),
  opensearchUsername: text.optional(),
  opensearchPassword: text.optional(),
  opensearchPrefix: text.optional(),
  role: z.enum(roles).optional(),
  tasks: z.array(text).max(1000).optional(),
  taskConcurrency: count(100_000).optional(),
  taskEngine: z.enum(taskEngines).optional(),
  taskThreads: count(1024).optional(),
  taskProcesses: count(1024).optional(),
  maxConnections: count(1_000_000).optional(),
  maxMessageBytes: bytes.max(64 * 1024 * 1024).optional(),
  sseKeepaliveMs: ms(100).optional(),
  sseIdleLimitMs: ms(0).optional(),
  ping: z.enum(['idle', 'interval', 'off']).optional(),
  heartbeatMs: ms(100).optional(),
  livenessMs: ms(100).optional(),
  resumeWindowMs: ms(0).optional(),
  stallMs: ms(100).optional(),
  window: count(1_000_000).optional(),
  waitingCommands: count(1_000_000).optional(),
  waitingBytes: bytes.optional(),
  mailboxCommands: count(10_000_000).optional(),
  mailboxBytes: bytes.optional(),
  streamsPerUser: z.number().int().min(0).max(100_000).optional(),
  streamLeaseMs: ms(1000).optional(),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).optional(),
} satisfies Record<keyof ServeOptions, z.ZodType>);

/** Options as they were given, checked one by one. */
export type CheckedOptions = z.output<typeof schema>;

/** Names of all options. */
export const optionNames = Object.keys(schema.shape) as (keyof ServeOptions)[];

/**
 * Fills in the defaults. Throws `invalid-argument` naming the option at fault; an unknown one with a suggestion.
 * `from` says where the options came from, for the message.
 */
export function resolveOptions(options: ServeOptions = {}, from = 'the options'): ResolvedOptions {
  const given = checkOptions(options, from);
  const { role = 'all' } = given;
  const tuning = presets[given.preset ?? 'production'];
  const resolved: ResolvedOptions = {
    ...tuning,
    ...(Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) as Partial<Tuning>),
    grpc: list(given.grpc ?? (role === 'worker' ? false : undefined), '127.0.0.1:50051'),
    http: list(given.http ?? (role === 'worker' ? false : undefined), '127.0.0.1:8080'),
    data: given.data ?? '.signalbox',
    auth: given.auth ?? ((given.authSecretFile ?? given.authJwks) ? 'jwt' : 'none'),
    authSecretFile: given.authSecretFile,
    authJwks: given.authJwks,
    authIssuer: given.authIssuer ?? 'signalbox',
    authAudience: given.authAudience ?? 'signalbox',
    tlsCert: given.tlsCert,
    tlsKey: given.tlsKey,
    tlsCa: given.tlsCa,
    hosts: given.hosts ?? [],
    origins: given.origins ?? [],
    preset: given.preset ?? 'production',
    node: given.node,
    redis: given.redis,
    redisPrefix: given.redisPrefix ?? 'signalbox',
    redisDurability: given.redisDurability ?? 'stored',
    redisWaitMs: given.redisWaitMs ?? 30_000,
    clusterSecretFile: given.clusterSecretFile,
    clusterCa: given.clusterCa,
    advertise: given.advertise,
    nodeLeaseMs: given.nodeLeaseMs ?? 10_000,
    drainTimeoutMs: given.drainTimeoutMs ?? 20_000,
    drainReconnectAfterMs: given.drainReconnectAfterMs ?? 1000,
    drainSpreadMs: given.drainSpreadMs ?? 5000,
    opensearch: given.opensearch,
    opensearchAuth: given.opensearchAuth ?? (given.opensearchUsername === undefined ? 'none' : 'basic'),
    opensearchUsername: given.opensearchUsername,
    opensearchPassword: given.opensearchPassword,
    opensearchPrefix: given.opensearchPrefix ?? 'stream_events',
    role,
    tasks: given.tasks ?? [],
    taskConcurrency: given.taskConcurrency ?? 50,
    taskEngine: given.taskEngine ?? 'own',
    taskThreads: given.taskThreads ?? availableParallelism(),
    taskProcesses: given.taskProcesses ?? availableParallelism(),
    maxConnections: given.maxConnections ?? 20_000,
    maxMessageBytes: given.maxMessageBytes ?? 1024 * 1024,
    sseKeepaliveMs: given.sseKeepaliveMs ?? 15_000,
    sseIdleLimitMs: given.sseIdleLimitMs ?? 0,
  };
  checkTogether(resolved);
  return resolved;
}

/** Throws `invalid-argument` naming the option at fault, and where it stands. Nothing is filled in. */
export function checkOptions(options: unknown, from: string): CheckedOptions {
  const parsed = schema.safeParse(options);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0]!;
    throw new HubError('invalid-argument', `unknown option "${key}" in ${from}${didYouMean(key, optionNames)}`);
  }
  const name = issue.path.join('.');
  throw new HubError('invalid-argument', `${from}: ${name === '' ? '' : `${name}: `}${issue.message}`);
}

function checkTogether(options: ResolvedOptions): void {
  const refuse = (message: string): never => {
    throw new HubError('invalid-argument', message);
  };
  if (options.opensearchAuth === 'basic' && (options.opensearchUsername === undefined || !options.opensearchPassword))
    refuse('opensearchAuth "basic" needs opensearchUsername and opensearchPassword');
  const isWorker = options.role === 'worker';
  if (isWorker && options.redis === undefined) refuse('role "worker" needs redis: that is where its runs are');
  if (isWorker && options.grpc.length > 0) refuse('role "worker" serves no gRPC: devices and callers go to a hub');
  if (options.taskEngine === 'bullmq' && options.redis === undefined)
    refuse('taskEngine "bullmq" needs redis: without it one process does all runs, and finds them by itself');
  if (!isWorker && options.grpc.length === 0 && options.http.length === 0)
    refuse('both grpc and http are off: nothing to serve');
  if (!isWorker && options.redis !== undefined && options.grpc.length === 0)
    refuse('redis makes this process one of several nodes, which reach each other by gRPC: do not switch grpc off');
  if ((options.tlsCert === undefined) !== (options.tlsKey === undefined))
    refuse('tlsCert and tlsKey belong together: give both or neither');
  if (options.authSecretFile !== undefined && options.authJwks !== undefined)
    refuse('authSecretFile and authJwks exclude each other: tokens are signed by one issuer');
  if (options.auth !== 'jwt' && (options.authSecretFile ?? options.authJwks) !== undefined)
    refuse(`auth is "${options.auth}", but a ${options.authJwks ? 'JWKS' : 'secret'} is given: use auth "jwt"`);
  if (options.auth === 'mtls' && (options.tlsCa === undefined || options.tlsCert === undefined))
    refuse('auth "mtls" needs tlsCert, tlsKey and tlsCa (the authority that signs the clients\' certificates)');
  if (
    options.auth === 'jwt' &&
    options.data === ':memory:' &&
    (options.authSecretFile ?? options.authJwks) === undefined
  )
    refuse('auth "jwt" with data ":memory:" has nowhere to keep its secret: give authSecretFile or authJwks');
}

const list = (value: string | readonly string[] | false | undefined, fallback: string): readonly string[] =>
  value === false ? [] : value === undefined ? [fallback] : typeof value === 'string' ? [value] : value;
