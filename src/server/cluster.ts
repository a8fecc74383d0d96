import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { type ClientDirectory, Membership, nodeEnd, type RoutedHub, routed } from '../cluster/index.ts';
import { HubError, toHubError } from '../errors.ts';
import type { GatewayHub } from '../gateway/index.ts';
import type { GrpcServerOptions } from '../grpc/index.ts';
import { grpcNodeLinks } from '../grpc/node-links.ts';
import type { Hub } from '../hub/index.ts';
import type { Node } from '../protocol/gen/signalbox/v1/cluster.ts';
import { formatAddress, parseAddress } from './addresses.ts';
import type { Observe } from './facts.ts';
import type { ResolvedOptions } from './options.ts';
import type { Parts } from './parts.ts';
import { version } from './version.ts';

/** What serves callers and devices: one hub, or the road over several. */
export type Served = GrpcServerOptions['hub'] & GatewayHub;

/** This process among several. */
export interface Cluster {
  /** Where the hub asks whether it may hold a client. */
  readonly membership: Membership;
  /** Serves with this hub. */
  attach(hub: Hub): RoutedHub;
  /** What answers the other nodes. */
  serving(hub: Hub): NonNullable<GrpcServerOptions['nodes']>;
  /** Joins, once the server listens at these addresses. */
  join(addresses: readonly string[]): Promise<void>;
}

export interface ClusterOptions {
  readonly options: ResolvedOptions;
  readonly node: string;
  readonly directory: ClientDirectory;
  /** Used where the options name none. */
  readonly secret: () => Promise<Buffer>;
  readonly parts: Parts;
  readonly observe: Observe;
}

/** Makes this process a node. Throws `invalid-argument` for a secret or address that cannot be. */
export async function openCluster(cluster: ClusterOptions): Promise<Cluster> {
  const { options, node, directory, parts, observe } = cluster;
  const secret = options.clusterSecretFile === undefined ? await cluster.secret() : secretIn(options.clusterSecretFile);
  let membership: Membership | undefined;
  const links = parts.add(
    'node links',
    grpcNodeLinks({ secret, instance: () => membership?.instance ?? '', tls: linkTls(options) }),
    (each) => each.close(),
  );
  const joined = new Membership({ directory, links, id: node, version, leaseMs: options.nodeLeaseMs, observe });
  membership = parts.add('membership', joined, (each) => each.close());
  return {
    membership: joined,
    attach(hub) {
      joined.attach(hub);
      return parts.add('routes', routed(hub, { membership: joined, directory, links, observe }), (each) =>
        each.close(),
      );
    },
    serving: (hub) => ({ end: nodeEnd(hub), secret, isOwn: (instance) => joined.isOwn(instance) }),
    join: (addresses) => joined.join(options.advertise ?? reachable(addresses)),
  };
}

/** One face for servers: devices come to this hub, commands go to whichever has their client. */
export function servedBy(hub: Hub, road: RoutedHub): Served {
  return {
    clients: road.clients,
    get isDraining() {
      return hub.isDraining;
    },
    accept: (stream, identity) => hub.accept(stream, identity),
    send: (command, options) => road.send(command, options),
    settle: (command, read) => road.settle(command, read),
    watch: (tenant, commandId, options) => road.watch(tenant, commandId, options),
    get: (tenant, commandId, options?: { clientId?: string | undefined }) => road.get(tenant, commandId, options),
    list: (filter) => road.list(filter),
    cancel: (tenant, commandId, reason, options?: { clientId?: string | undefined }) =>
      road.cancel(tenant, commandId, reason, options),
  };
}

/** The nodes for whoever asks: this one alone, where there is no cluster. */
export async function listedNodes(
  hub: Hub,
  alone: { readonly node: string; readonly startedAtMs: number },
  cluster: { readonly road: RoutedHub; readonly membership: Membership } | undefined,
): Promise<Node[]> {
  if (!cluster)
    return [
      {
        id: alone.node,
        instance: '',
        address: '',
        version,
        startedAtMs: alone.startedAtMs,
        sessions: hub.load.sessions,
        isDraining: hub.isDraining,
        isAnswering: true,
      },
    ];
  const { road, membership } = cluster;
  return (await road.nodes()).map(({ load, ...rest }) => ({
    ...rest,
    ...load,
    isAnswering: membership.isOwn(rest.instance),
  }));
}

function secretIn(file: string): Buffer {
  return Buffer.from(read('secret', file).toString('utf8').trim());
}

function read(what: string, file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    const why = toHubError(error).message;
    throw new HubError('invalid-argument', `the ${what} ${file} cannot be read: ${why}`, { cause: error });
  }
}

/** Links are encrypted where the server is; the other nodes' certificates are signed by `clusterCa`, or the system's. */
function linkTls({ tlsCert, tlsKey, clusterCa }: ResolvedOptions) {
  if (tlsCert === undefined || tlsKey === undefined) return undefined;
  const ca = clusterCa === undefined ? undefined : read('authority', clusterCa);
  return { ...(ca && { ca }), cert: read('certificate', tlsCert), key: read('key', tlsKey) };
}

/** An address that the server listens at, as others can use it. */
function reachable(addresses: readonly string[]): string {
  const parsed = addresses.map(parseAddress);
  const address = parsed.find(({ kind }) => kind === 'tcp') ?? parsed[0];
  if (!address)
    throw new HubError('invalid-argument', 'a node of several needs a gRPC address: the others reach it there');
  if (address.kind === 'unix' || !['0.0.0.0', '::'].includes(address.host)) return formatAddress(address);
  const outside = Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .find(({ internal, family }) => !internal && family === 'IPv4');
  return formatAddress({ ...address, host: outside?.address ?? '127.0.0.1' });
}
