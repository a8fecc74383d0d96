import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  credentials,
  Metadata,
  type StatusObject,
} from '@grpc/grpc-js';
import { HubError } from '../../errors.ts';
import { connectPath, errorOfStatus } from './grpc-status.ts';
import type { Dial } from './hub-wire.ts';
import { secureCredentials } from './secure-credentials.ts';
import { trackedCredentials } from './tracked-credentials.ts';

/** How the hub is recognised, and we by it. All in PEM. */
export interface DeviceTls {
  /** Authorities to trust. Default: those of Node. */
  ca?: string | Buffer | undefined;
  /** Our certificate and its key, where the hub knows devices by them. */
  cert?: string | Buffer | undefined;
  key?: string | Buffer | undefined;
  /** Name that the hub's certificate has to carry, where it is not the host of the address. */
  serverName?: string | undefined;
}

export interface GrpcWireOptions {
  readonly addresses: readonly string[];
  readonly tls: DeviceTls | true | undefined;
  readonly channelOptions: ChannelOptions;
  /** Chooses with which address to begin. Default: the first. */
  readonly random?: (() => number) | undefined;
}

/**
 * Streams over gRPC. Each attempt has a connection of its own, so that a dead one is left behind for good; and, of
 * several addresses, the next one: the hub that was lost, or sends its devices away, is not asked again first.
 */
export function grpcDial({ addresses, tls, channelOptions, random }: GrpcWireOptions): Dial {
  const channelCredentials = tls ? secure(tls === true ? {} : tls) : credentials.createInsecure();
  const options: ChannelOptions = {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
    'grpc.enable_channelz': 0,
    // The hub limits payloads; this only bounds what a broken one can do.
    'grpc.max_receive_message_length': 64 * 1024 * 1024,
    'grpc.keepalive_time_ms': 20_000,
    'grpc.keepalive_timeout_ms': 10_000,
    'grpc.keepalive_permit_without_calls': 1,
    ...(tls !== true && tls?.serverName !== undefined && { 'grpc.ssl_target_name_override': tls.serverName }),
    ...channelOptions,
  };

  let at = random ? Math.floor(random() * addresses.length) : 0;

  return (listener, token) => {
    const address = addresses[at++ % addresses.length]!;
    const tracked = trackedCredentials(channelCredentials);
    const client = new Client(address, tracked.credentials, options);
    const metadata = new Metadata();
    if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
    const call = client.makeBidiStreamRequest<Buffer, Buffer>(connectPath, same, same, metadata);
    let isOver = false;
    const free = (): void => {
      client.close();
      // What was written goes out first, if it can; a connection that is dead is not waited for.
      setImmediate(() => setImmediate(tracked.destroySockets));
    };
    call.on('data', (bytes: Buffer) => {
      if (!isOver) listener.onFrame(bytes);
    });
    call.on('drain', () => {
      if (!isOver) listener.onWritable();
    });
    call.on('error', () => {
      // Its status follows, and says the same.
    });
    call.on('status', (ended: StatusObject) => {
      if (isOver) return;
      isOver = true;
      free();
      listener.onClosed(errorOfStatus(ended.code, ended.details, address));
    });
    return {
      send: (bytes) => !isOver && call.write(bytes),
      end: () => {
        if (!isOver) call.end();
      },
      destroy: () => {
        if (isOver) return;
        isOver = true;
        call.cancel();
        free();
      },
    };
  };
}

function secure(tls: DeviceTls): ChannelCredentials {
  try {
    return secureCredentials(tls);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new HubError('invalid-argument', `tls: ca, cert or key cannot be used: ${reason}`, { cause: error });
  }
}

function same(bytes: Buffer): Buffer {
  return bytes;
}
