import type { PresetName, Tuning } from './presets.ts';

export const roles = ['all', 'hub', 'worker'] as const;
/** What a process does. */
export type Role = (typeof roles)[number];
export const taskEngines = ['own', 'bullmq'] as const;
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

/** What is undefined where it was not given. */
type Unset =
  | 'authSecretFile'
  | 'authJwks'
  | 'tlsCert'
  | 'tlsKey'
  | 'tlsCa'
  | 'node'
  | 'redis'
  | 'clusterSecretFile'
  | 'clusterCa'
  | 'advertise'
  | 'opensearch'
  | 'opensearchUsername'
  | 'opensearchPassword';
type Addresses = 'grpc' | 'http';

/** Options with every default filled in; an address that is switched off is none. */
export type ResolvedOptions = Readonly<
  Required<Omit<ServeOptions, Unset | Addresses>> &
    Record<Unset, string | undefined> &
    Record<Addresses, readonly string[]>
>;
