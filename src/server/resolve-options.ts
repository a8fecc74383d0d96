import { availableParallelism } from 'node:os';
import { HubError } from '../errors.ts';
import { checkOptions } from './check-options.ts';
import type { ResolvedOptions, ServeOptions } from './options.ts';
import { presets, type Tuning } from './presets.ts';

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
