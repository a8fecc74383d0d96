import type { Channel } from '@grpc/grpc-js';
import {
  type CallOptions,
  type Client,
  ClientError,
  type ClientMiddleware,
  createClientFactory,
  Metadata,
} from 'nice-grpc';
import { HealthDefinition } from 'nice-grpc-server-health';
import { ClientServiceDefinition } from '../protocol/gen/signalbox/v1/client.ts';
import { ClusterServiceDefinition } from '../protocol/gen/signalbox/v1/cluster.ts';
import { CommandServiceDefinition } from '../protocol/gen/signalbox/v1/command.ts';
import { EventServiceDefinition } from '../protocol/gen/signalbox/v1/event.ts';
import { toGrpcJsMetadata } from './call-context.ts';
import { type ConnectOptions, channelParts, checkToken, type Token } from './channel.ts';
import { SeveralChannels } from './several-channels.ts';
import { errorOfStatus } from './status.ts';

/** Typed clients of a hub's services over one shared connection. Their errors are `HubError`s. */
export interface HubClients extends AsyncDisposable {
  readonly commands: Client<typeof CommandServiceDefinition>;
  readonly clients: Client<typeof ClientServiceDefinition>;
  readonly cluster: Client<typeof ClusterServiceDefinition>;
  readonly events: Client<typeof EventServiceDefinition>;
  readonly health: Client<typeof HealthDefinition>;
  close(): Promise<void>;
}

/** Opens lazily: the first call connects. Calls fail with `unavailable` while the hub is not there. */
export function hubClients(options: ConnectOptions): HubClients {
  const { targets, credentials, options: channelOptions } = channelParts(options);
  const channel = new SeveralChannels(targets, credentials, channelOptions);
  // nice-grpc makes calls on it, and looks at nothing else.
  const shared = channel as unknown as Channel;
  const factory = createClientFactory()
    .use(tryOthers(channel))
    .use(rebuildErrors(targets.join(',')))
    .use(bringToken(options.token));
  const close = async (): Promise<void> => channel.close();
  return {
    commands: factory.create(CommandServiceDefinition, shared),
    clients: factory.create(ClientServiceDefinition, shared),
    cluster: factory.create(ClusterServiceDefinition, shared),
    events: factory.create(EventServiceDefinition, shared),
    health: factory.create(HealthDefinition, shared),
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** A call that one hub cannot be reached for is made at the next: all of these may be repeated. */
function tryOthers(channel: SeveralChannels): ClientMiddleware {
  return async function* (call, options: CallOptions) {
    for (let left = channel.size - 1; ; left--)
      try {
        return yield* call.next(call.request, options);
      } catch (thrown) {
        const isOut = thrown instanceof ClientError && thrown.code === 14;
        if (isOut) channel.moveOn(channel.at);
        if (!isOut || left <= 0 || call.requestStream || call.responseStream) throw thrown;
      }
  };
}

function bringToken(token: Token | undefined): ClientMiddleware {
  return async function* (call, options: CallOptions) {
    const value = typeof token === 'function' ? await token() : token;
    const metadata = Metadata(options.metadata);
    if (value !== undefined) {
      checkToken(value);
      metadata.set('authorization', `Bearer ${value}`);
    }
    return yield* call.next(call.request, { ...options, metadata });
  };
}

function rebuildErrors(address: string): ClientMiddleware {
  return async function* (call, options: CallOptions) {
    let trailer: Metadata | undefined;
    const onTrailer = (metadata: Metadata): void => {
      trailer = metadata;
      options.onTrailer?.(metadata);
    };
    try {
      return yield* call.next(call.request, { ...options, onTrailer });
    } catch (thrown) {
      if (!(thrown instanceof ClientError)) throw thrown;
      const { code, details } = thrown;
      throw errorOfStatus({ code, details: naming(address, code, details), metadata: toGrpcJsMetadata(trailer) });
    }
  };
}

/** grpc-js says of a hub that is not there neither which one nor, always, that it is not there. */
export function naming(address: string, code: number, details: string): string {
  return code === 14 && !details.includes(address) ? `hub at ${address}: ${details}` : details;
}
