import { Channel } from '@grpc/grpc-js';
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
import { CommandServiceDefinition } from '../protocol/gen/signalbox/v1/command.ts';
import { EventServiceDefinition } from '../protocol/gen/signalbox/v1/event.ts';
import { type ConnectOptions, channelParts, type Token } from './channel.ts';
import { toGrpcJsMetadata } from './service.ts';
import { errorOfStatus } from './status.ts';

/** Typed clients of a hub's services over one shared connection. Their errors are `HubError`s. */
export interface HubClients extends AsyncDisposable {
  readonly commands: Client<typeof CommandServiceDefinition>;
  readonly clients: Client<typeof ClientServiceDefinition>;
  readonly events: Client<typeof EventServiceDefinition>;
  readonly health: Client<typeof HealthDefinition>;
  close(): Promise<void>;
}

/** Opens lazily: the first call connects. Calls fail with `unavailable` while the hub is not there. */
export function hubClients(options: ConnectOptions): HubClients {
  const { target, credentials, options: channelOptions } = channelParts(options);
  const channel = new Channel(target, credentials, channelOptions);
  const factory = createClientFactory().use(rebuildErrors(options.address)).use(bringToken(options.token));
  const close = async (): Promise<void> => channel.close();
  return {
    commands: factory.create(CommandServiceDefinition, channel),
    clients: factory.create(ClientServiceDefinition, channel),
    events: factory.create(EventServiceDefinition, channel),
    health: factory.create(HealthDefinition, channel),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function bringToken(token: Token | undefined): ClientMiddleware {
  return async function* (call, options: CallOptions) {
    const value = typeof token === 'function' ? await token() : token;
    const metadata = Metadata(options.metadata);
    if (value !== undefined) metadata.set('authorization', `Bearer ${value}`);
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
