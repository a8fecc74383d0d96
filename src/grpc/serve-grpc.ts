import { Server, ServerCredentials, type ServerOptions } from '@grpc/grpc-js';
import type { Authenticator } from '../auth/principal.ts';
import { HubError } from '../errors.ts';
import type { EventLog } from '../events/event-log.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { DeviceServiceDefinition } from '../protocol/gen/signalbox/v1/device.ts';
import type { OpenStream } from './call-context.ts';
import { clientService } from './client-service.ts';
import { commandService, type ServedHub } from './command-service.ts';
import { type DeviceEnvironment, deviceHandler } from './device-stream.ts';
import { eventService } from './event-service.ts';
import type { GrpcFact } from './facts.ts';
import { guardHeaders, guardMessages } from './front-door.ts';
import { registerBidi } from './grpc-js-call.ts';
import { createHealth } from './health.ts';
import { linkPath } from './link-proof.ts';
import { type GrpcTls, type Listener, listen } from './listener.ts';
import { type Mount, mountHandler, mountPath } from './mount.ts';
import { answeredLinks, type NodeServing } from './node-service.ts';
import { plainBidis } from './plain-bidi.ts';
import { plainCalls } from './plain-call.ts';
import type { BidiHandler, RawCall } from './raw-call.ts';
import { reflectionServices } from './reflection.ts';
import { sendCommandToClient } from './send-call.ts';
import { addService, type GrpcService } from './service.ts';
import { serviceNameOf } from './service-methods.ts';

const endlessPaths: ReadonlySet<string> = new Set([
  '/signalbox.v1.ClientService/WatchClients',
  '/signalbox.v1.EventService/WatchEvents',
  '/grpc.health.v1.Health/Watch',
]);

export interface GrpcLimits {
  /** Bytes of one message that is taken. Default: 1 MiB, and 64 KiB for what stands around a payload. */
  readonly maxMessageBytes?: number | undefined;
  /** Streams of one connection: commands that one caller can have under way. Default: 10000. */
  readonly maxConcurrentStreams?: number | undefined;
  /** Connections of one address. Default: 20000. */
  readonly maxConnections?: number | undefined;
  /** Bytes of metadata of one call. Default: 8 KiB. */
  readonly maxHeaderBytes?: number | undefined;
  /** A connection has to speak HTTP/2, and a device to say hello, within this time, in ms. Default: 10000. */
  readonly firstFrameMs?: number | undefined;
  /** A caller or watcher that takes nothing of its stream for this long loses it, in ms. Default: 30000. */
  readonly stallMs?: number | undefined;
}

export interface GrpcServerOptions {
  /** Stays its owner's: closing the server does not close it. */
  readonly hub: ServedHub;
  /** The channels behind EventService. Without it that service is not served. */
  readonly log?: EventLog | undefined;
  readonly authenticator: Authenticator;
  /** Where to listen: `host:port` (port 0: any free one) or `unix:///path`. At least one. */
  readonly addresses: readonly string[];
  /** For all `host:port` addresses. Default: none. */
  readonly tls?: GrpcTls | undefined;
  readonly limits?: GrpcLimits | undefined;
  /** HTTP/2 pings of silent connections: every `timeMs` (default 30000), dead after `timeoutMs` (default 10000). */
  readonly keepalive?: { readonly timeMs?: number | undefined; readonly timeoutMs?: number | undefined } | undefined;
  /** Own bidi methods that the hub serves as streams to devices. */
  readonly mounts?: readonly Mount[] | undefined;
  /** Answers the other nodes of a cluster. Default: this is the only one. */
  readonly nodes?: NodeServing | undefined;
  /** Further services, made by `grpcService`. */
  readonly services?: readonly GrpcService[] | undefined;
  readonly clock?: Clock | undefined;
  /** Hears every fact worth logging or counting. Default: nobody listens. */
  readonly observe?: ((fact: GrpcFact) => void) | undefined;
}

/** A running gRPC server. */
export interface GrpcServer extends AsyncDisposable {
  /** The addresses as given, with the ports filled in. */
  readonly addresses: readonly string[];
  /** What is open now: connections of all addresses, and streams of devices on them. */
  readonly load: { readonly connections: number; readonly deviceStreams: number };
  /** Serves one more bidi method of a user's own as streams to devices. */
  mount(mount: Mount): void;
  /**
   * Says "not serving" to health checks and takes no more connections; those that are there live on. `keepListening`:
   * takes connections all the same, for other nodes that have something to ask. Default: false.
   */
  drain(options?: { readonly keepListening?: boolean | undefined }): void;
  /** Takes no more calls, lets those that run end for at most `timeoutMs` (default 5000), then ends them all. */
  close(options?: { readonly timeoutMs?: number | undefined }): Promise<void>;
}

/** Serves a hub over gRPC. Throws `unavailable` when an address cannot be listened on, `invalid-argument` for bad options. */
export async function serveGrpc(options: GrpcServerOptions): Promise<GrpcServer> {
  const { hub, log, authenticator, addresses, tls, limits = {}, keepalive = {} } = options;
  const { mounts = [], services = [], clock = systemClock, observe = () => undefined } = options;
  const { maxMessageBytes = 1024 * 1024 + 64 * 1024, maxConcurrentStreams = 10_000, maxConnections = 20_000 } = limits;
  const { maxHeaderBytes = 8 * 1024, firstFrameMs = 10_000, stallMs = 30_000 } = limits;
  if (addresses.length === 0) throw new HubError('invalid-argument', 'addresses is empty: name at least one');
  for (const [name, value] of Object.entries({ maxMessageBytes, maxConcurrentStreams, maxConnections, firstFrameMs }))
    if (!(value >= 1)) throw new HubError('invalid-argument', `limits.${name} is ${value}, the least is 1`);

  const grpcOptions: ServerOptions = {
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': maxConcurrentStreams,
    'grpc.keepalive_time_ms': keepalive.timeMs ?? 30_000,
    'grpc.keepalive_timeout_ms': keepalive.timeoutMs ?? 10_000,
    // Its registry is what forceShutdown needs and nobody reads; ours costs less.
    'grpc.enable_channelz': 0,
    interceptors: [guardMessages],
  };
  const server = new Server(grpcOptions);
  const calls = new Set<RawCall>();
  const bidis = new Map<string, BidiHandler>();
  const raw = { clock, openCalls: calls, maxMessageBytes };
  const addBidi = (path: string, handle: BidiHandler): void => {
    registerBidi(server, path, handle, raw);
    bidis.set(path, handle);
  };
  const devices: DeviceEnvironment = { hub, authenticator, clock, observe, firstFrameMs, maxHeaderBytes };
  const { fullName: name, methods } = DeviceServiceDefinition;
  addBidi(`/${name}/${methods.connect.name}`, deviceHandler(devices));

  const links = options.nodes && answeredLinks(options.nodes, { clock, observe, firstFrameMs });
  if (links) addBidi(linkPath, links.handle);

  const served = [
    commandService(hub),
    clientService(hub.clients),
    ...(log ? [eventService(log, clock)] : []),
    ...services,
  ];
  const names = [name, ...served.map((service) => serviceNameOf(service.definition))];
  const health = createHealth(names);
  health.setServing(true);
  const endless = { paths: endlessPaths, open: new Set<OpenStream>() };
  const environment = { authenticator, clock, observe, stallMs, maxHeaderBytes, endless };
  for (const service of [...served, health.service, ...reflectionServices(names)])
    addService(server, service, environment);
  const mount = (one: Mount): void => addBidi(mountPath(one), mountHandler(one, devices));
  for (const one of mounts) mount(one);

  let closing: Promise<void> | undefined;
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const sends = plainCalls(sendCommandToClient(hub), {
    authenticator,
    clock,
    observe,
    stallMs,
    maxHeaderBytes,
    maxMessageBytes,
  });
  const takeBidi = plainBidis(bidis, raw);
  guardHeaders(server, (stream, headers) => takeBidi(stream, headers) || sends.take(stream, headers));
  const listeners: Listener[] = [];
  const stop = () => Promise.all(listeners.map((listener) => listener.stop()));
  try {
    for (const address of addresses) {
      const listener = await listen({
        address,
        tls,
        onConnection: (socket) => {
          injector.injectConnection(socket);
          // `close` itself ends those that take too long.
          if (closing) clock.after(lateCallMs, () => injector.drain(3_600_000));
        },
        clock,
        observe,
        prefaceMs: firstFrameMs,
        maxConnections,
      });
      listeners.push(listener);
      observe({ kind: 'grpc-listening', address: listener.address });
    }
  } catch (error) {
    await stop();
    injector.destroy();
    sends.close();
    throw error;
  }

  const close = async (timeoutMs: number): Promise<void> => {
    health.setServing(false);
    void stop();
    await links?.close();
    const empty = Promise.all(listeners.map((listener) => listener.empty()));
    // GOAWAY: no new calls on these connections; each ends when its last call does.
    injector.drain(timeoutMs + 1_000);
    for (const call of calls) call.end();
    for (const watch of endless.open) watch.end(new HubError('unavailable', 'this server is shutting down'));
    let letGo: () => void = () => undefined;
    const late = new Promise<void>((resolve) => {
      letGo = clock.after(timeoutMs, resolve);
    });
    await Promise.race([empty, late]);
    letGo();
    for (const call of calls) call.reset();
    for (const listener of listeners) listener.destroy();
    await empty;
    injector.destroy();
    sends.close();
    observe({ kind: 'grpc-closed' });
  };
  const running: GrpcServer = {
    addresses: listeners.map((listener) => listener.address),
    get load() {
      return { connections: listeners.reduce((sum, each) => sum + each.connections, 0), deviceStreams: calls.size };
    },
    mount,
    drain({ keepListening = false } = {}) {
      health.setServing(false);
      if (!keepListening) void stop();
    },
    close: ({ timeoutMs = 5_000 } = {}) => (closing ??= close(timeoutMs)),
    [Symbol.asyncDispose]: () => running.close(),
  };
  return running;
}

/** Whoever was taken in the moment of the end has so long to make the call that it came for, in ms. */
const lateCallMs = 100;
