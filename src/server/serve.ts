import { hostname } from 'node:os';
import { ticketBooth } from '../auth/index.ts';
import type { Membership } from '../cluster/index.ts';
import type { EventArchive } from '../events/event-archive.ts';
import type { EventLog } from '../events/event-log.ts';
import { type Gateway, serveGateway } from '../gateway/index.ts';
import { clusterService } from '../grpc/cluster-service.ts';
import { descriptors } from '../grpc/descriptors.ts';
import { type GrpcServer, type Mount, serveGrpc } from '../grpc/index.ts';
import { type CommandStore, Hub } from '../hub/index.ts';
import { type LeaseStore, StreamLeases } from '../leases/index.ts';
import { type Schemas, schemasFromDescriptors } from '../schemas/index.ts';
import { type Task, Tasks } from '../tasks/index.ts';
import { authenticatorFor, loginFor, refuseOpenDoors } from './authentication.ts';
import { listedNodes, openCluster, type Served, servedBy } from './cluster.ts';
import { type Observe, toAll } from './facts.ts';
import { loadOptions, type OptionSources } from './load-options.ts';
import { loadTasks } from './load-tasks.ts';
import { type LogDestination, serverLogs } from './logs.ts';
import { serverMetrics } from './metrics.ts';
import { openStores } from './open-stores.ts';
import type { ResolvedOptions, ServeOptions } from './options.ts';
import { builtInPage } from './page/built-in-page.ts';
import { Parts } from './parts.ts';
import { readTls } from './tls.ts';
import { serverTracing } from './tracing.ts';

/** What a program can hand to `serve` beside the options that could stand in a file. */
export interface ServeExtras {
  /** Where environment and config file are looked for. Default: `process.env`, the working directory. */
  readonly sources?: Omit<OptionSources, 'overrides'>;
  /** Hears every fact of every part, beside the log and the metrics. */
  readonly observe?: Observe;
  /** Aborting it ends the wait for a Redis that is not there yet; what runs is closed by `close`. */
  readonly signal?: AbortSignal;
  /** Where the log goes. Default: standard error. */
  readonly logTo?: LogDestination;
  /** Message types for JSON payloads over HTTP. Default: those of this package. */
  readonly types?: Schemas;
  /** Tasks that can be triggered, beside those of the modules that the options name. */
  readonly tasks?: readonly Task[];
  /** Own bidi methods that the hub serves as streams to devices. */
  readonly mounts?: readonly Mount[];
}

/** A running hub with its gRPC server, its HTTP gateway and its store. */
export interface SignalboxServer extends AsyncDisposable {
  /** The hub of this process, with the devices that are connected to it. */
  readonly hub: Hub;
  /** The road to every client: with several nodes to those of the others, too. */
  readonly road: Served;
  readonly log: EventLog;
  /** Background work: trigger, look up, cancel. */
  readonly tasks: Tasks;
  /** Finds durable events of the past across channels; undefined where nothing is kept to look through. */
  readonly archive: Pick<EventArchive, 'query'> | undefined;
  /** The places of users' event streams, for whatever else is to share them; undefined with `streamsPerUser: 0`. */
  readonly leases: StreamLeases | undefined;
  /** Addresses of the gRPC server, ports filled in. */
  readonly grpc: readonly string[];
  /** URLs of the gateway. */
  readonly http: readonly string[];
  readonly options: ResolvedOptions;
  /** Not ready any more: refuses new work, tells devices and browsers, lets running commands end. */
  drain(): Promise<void>;
  /** Drains, then closes everything in the reverse order of opening. May be called twice. */
  close(): Promise<void>;
}

/**
 * Opens one process of Signalbox: store, hub, gRPC server, gateway. Options given here win over `SIGNALBOX_*`
 * variables, these over the config file, this over the defaults.
 *
 * Throws `invalid-argument` naming the option at fault (also for an address that others can reach without
 * authentication), `unavailable` for a port or data directory in use. What was opened by then is closed again.
 */
export async function serve(options: ServeOptions = {}, extras: ServeExtras = {}): Promise<SignalboxServer> {
  const resolved = await loadOptions({ ...extras.sources, overrides: options });
  await refuseOpenDoors(resolved);
  const tls = readTls(resolved, Date.now());
  const logs = serverLogs({ level: resolved.logLevel, ...(extras.logTo ? { destination: extras.logTo } : {}) });
  let hub: Hub | undefined;
  let commands: CommandStore | undefined;
  let watchers = 0;
  const metrics = serverMetrics({
    mailboxDepth: async () => (await commands?.count().catch(() => Number.NaN)) ?? 0,
    outboxBytes: () => hub?.load.outboxBytes ?? 0,
    watchers: () => watchers,
  });
  const tracing = await serverTracing();
  const observe = toAll(logs.observe, metrics.observe, ...(tracing ? [tracing] : []), (fact) => {
    if ('open' in fact && (fact.kind === 'stream-opened' || fact.kind === 'stream-closed'))
      watchers = Number(fact.open);
    extras.observe?.(fact);
  });
  const parts = new Parts(observe);
  parts.add('metrics', metrics, () => metrics.close());
  try {
    const authenticator = await authenticatorFor(resolved);
    const store = await openStores(resolved, parts, observe, extras.signal);
    commands = store.commands;
    const node = resolved.node ?? `${hostname()}-${process.pid}`;
    const { shared } = store;
    const cluster = shared && (await openCluster({ options: resolved, node, ...shared, parts, observe }));
    hub = parts.add(
      'hub',
      new Hub({
        ...resolved,
        node,
        log: store.log,
        commands,
        claims: cluster?.membership,
        clock: shared?.clock,
        maxPayloadBytes: resolved.maxMessageBytes,
        observe,
      }),
      (each) => each.close(),
    );
    const ours = hub;
    const road = cluster?.attach(hub);
    const served: Served = road ? servedBy(hub, road) : hub;
    const startedAtMs = Date.now();
    const nodes = () =>
      listedNodes(ours, { node, startedAtMs }, cluster && road && { road, membership: cluster.membership });
    const tasks = parts.add(
      'tasks',
      new Tasks({
        tasks: [...(extras.tasks ?? []), ...(await loadTasks(resolved.tasks, extras.sources?.cwd))],
        log: store.log,
        store: store.runs,
        engine: store.taskEngine,
        // A worker holds no devices: its tasks command them over a hub, as the environment says.
        transport: resolved.role === 'worker' ? undefined : served,
        work: resolved.role !== 'hub',
        concurrency: resolved.taskConcurrency,
        threads: resolved.taskThreads,
        processes: resolved.taskProcesses,
        node,
        observe,
      }),
      (each) => each.close(),
    );
    await tasks.start();
    const leases = openLeases(resolved, node, store.leases, parts, observe);
    const running: Running = {
      hub,
      road: served,
      membership: cluster?.membership,
      log: store.log,
      tasks,
      archive: store.archive,
      leases,
      parts,
      observe,
      options: resolved,
      grpc: undefined,
      gateway: undefined,
    };
    if (resolved.grpc.length > 0)
      running.grpc = parts.add(
        'gRPC server',
        await serveGrpc({
          hub: served,
          nodes: cluster?.serving(hub),
          services: [clusterService(nodes)],
          log: store.log,
          authenticator,
          addresses: resolved.grpc,
          tls: tls && {
            cert: tls.cert,
            key: tls.key,
            clientCa: tls.clientCa,
            requireClientCert: resolved.auth === 'mtls',
          },
          // Room for what stands around a payload.
          limits: {
            maxMessageBytes: resolved.maxMessageBytes + 64 * 1024,
            maxConnections: resolved.maxConnections,
            stallMs: resolved.stallMs,
          },
          mounts: extras.mounts,
          observe,
        }),
        (each) => each.close(),
      );
    if (cluster && running.grpc) await cluster.join(running.grpc.addresses);
    if (resolved.http.length > 0)
      running.gateway = parts.add(
        'gateway',
        await serveGateway({
          hub: served,
          log: store.log,
          authenticator,
          addresses: resolved.http,
          tls: tls && { cert: tls.cert, key: tls.key },
          allowedHosts: resolved.hosts.length > 0 ? resolved.hosts : undefined,
          allowedOrigins: resolved.origins,
          limits: {
            bodyBytes: Math.max(1024 * 1024, resolved.maxMessageBytes) * 1.5, // base64 takes a third more
            keepaliveMs: resolved.sseKeepaliveMs,
            idleLimitMs: resolved.sseIdleLimitMs,
            stallMs: resolved.stallMs,
          },
          leases,
          tasks,
          archive: store.archive,
          login: await loginFor(resolved),
          tickets: ticketBooth(),
          types: extras.types ?? schemasFromDescriptors(Buffer.from(descriptors, 'base64')),
          page: builtInPage(),
          metrics: async () => ({ contentType: metrics.contentType, body: await metrics.render() }),
          ready: () => (hub?.isDraining ? { ok: false, reasons: ['draining'] } : { ok: true, reasons: [] }),
          observe,
        }),
        (each) => each.close(),
      );
    return announce(running);
  } catch (error) {
    await parts
      .close()
      .catch((cause: unknown) =>
        observe({ kind: 'server-close-failed', part: 'server', message: String(cause), cause }),
      );
    throw error;
  }
}

interface Running {
  readonly hub: Hub;
  readonly road: Served;
  readonly membership: Membership | undefined;
  readonly log: EventLog;
  readonly tasks: Tasks;
  readonly archive: EventArchive | undefined;
  readonly leases: StreamLeases | undefined;
  readonly parts: Parts;
  readonly observe: Observe;
  readonly options: ResolvedOptions;
  grpc: GrpcServer | undefined;
  gateway: Gateway | undefined;
}

function openLeases(
  { streamsPerUser, streamLeaseMs }: ResolvedOptions,
  holder: string,
  store: LeaseStore | undefined,
  parts: Parts,
  observe: Observe,
): StreamLeases | undefined {
  if (streamsPerUser === 0) return undefined;
  const leases = new StreamLeases({ store, limit: streamsPerUser, ttlMs: streamLeaseMs, holder, observe });
  return parts.add('leases', leases, (each) => each.close());
}

function announce({
  hub,
  road,
  membership,
  log,
  tasks,
  archive,
  leases,
  parts,
  observe,
  options,
  grpc,
  gateway,
}: Running): SignalboxServer {
  // A worker serves nobody.
  if (options.auth === 'none' && (grpc || gateway))
    observe({
      kind: 'server-open',
      message: 'no tokens are asked for: everybody on this machine may command devices (--auth jwt changes that)',
    });
  if (membership && options.auth === 'jwt' && (options.authSecretFile ?? options.authJwks) === undefined)
    observe({
      kind: 'server-advice',
      message: `tokens are signed with the secret in ${options.data}: nodes with another one refuse them; give all the same authSecretFile`,
    });
  const addresses = { grpc: grpc?.addresses ?? [], http: gateway?.urls ?? [] };
  observe({ kind: 'server-ready', ...addresses, auth: options.auth });
  const { drainTimeoutMs: timeoutMs, drainReconnectAfterMs: reconnectAfterMs, drainSpreadMs: spreadMs } = options;
  let draining: Promise<void> | undefined;
  let closing: Promise<void> | undefined;
  const drain = (): Promise<void> => {
    if (draining) return draining;
    observe({ kind: 'server-draining', timeoutMs });
    // The other nodes go on asking this one until the last device has left.
    grpc?.drain({ keepListening: membership !== undefined });
    // Browsers go once the last updates of running commands are told.
    const drained = hub.drain({ timeoutMs, reconnectAfterMs, spreadMs });
    // So that nobody waits for the next renewal to hear of it; that one says it again.
    void membership?.renew().catch(() => undefined);
    draining = Promise.all([drained, tasks.drain({ timeoutMs })]).then(() => gateway?.drain());
    return draining;
  };
  const close = (): Promise<void> => {
    closing ??= drain()
      .then(() => parts.close())
      .then(() => observe({ kind: 'server-closed' }));
    return closing;
  };
  return { hub, road, log, tasks, archive, leases, ...addresses, options, drain, close, [Symbol.asyncDispose]: close };
}
