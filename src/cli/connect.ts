import type { Command } from 'commander';
import type { ClientLister } from '../commands/client-lister.ts';
import { toHubError } from '../errors.ts';
import type { HubClients } from '../grpc/hub-clients.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import type { Schemas } from '../schemas/index.ts';
import { readText } from './arguments.ts';
import type { Outside } from './terminal.ts';

/** How to reach a hub: the options that every verb which talks to one has. */
export interface HubOptions {
  grpc?: string;
  tokenFile?: string;
  tls?: boolean;
  tlsCa?: string;
  tlsCert?: string;
  tlsKey?: string;
}

/** Where and as whom, with the defaults filled in. */
export interface HubAccess {
  readonly address: string;
  readonly token: string | undefined;
  /** PEM texts; undefined: without TLS. */
  readonly tls: { readonly ca?: string; readonly cert?: string; readonly key?: string } | undefined;
}

export function withHubOptions(command: Command): Command {
  return command
    .option('--grpc <address>', 'the hub: host:port or unix:///path (default: SIGNALBOX_ADDRESS or 127.0.0.1:50051)')
    .option('--token-file <file>', 'file with a token (default: SIGNALBOX_TOKEN)')
    .option('--tls', 'speak TLS and trust the authorities of this machine')
    .option('--tls-ca <file>', 'speak TLS and trust this authority (PEM)')
    .option('--tls-cert <file>', 'own certificate (PEM), for mTLS')
    .option('--tls-key <file>', 'its key (PEM)');
}

/** Reads files and variables. Throws `invalid-argument` naming a file that cannot be read. */
export function hubAccess(options: HubOptions, { env }: Outside): HubAccess {
  const read = (path: string | undefined): string | undefined => (path === undefined ? undefined : readText(path));
  const ca = read(options.tlsCa);
  const cert = read(options.tlsCert);
  const key = read(options.tlsKey);
  const usesTls = options.tls === true || ca !== undefined || cert !== undefined;
  const token = options.tokenFile === undefined ? env.SIGNALBOX_TOKEN : readText(options.tokenFile);
  return {
    address: options.grpc ?? (env.SIGNALBOX_ADDRESS || '127.0.0.1:50051'),
    token: token?.trim() || undefined,
    tls: usesTls ? { ...(ca && { ca }), ...(cert && { cert }), ...(key && { key }) } : undefined,
  };
}

/** What a command needs of a hub, wherever that is. */
export interface CommandHub extends AsyncDisposable {
  readonly address: string;
  readonly transport: CommandTransport;
  /** The message types that the hub's server tells of itself. */
  reflect(): Promise<Schemas>;
  /** Undefined: this caller may not know. */
  isConnected(clientId: string): Promise<boolean | undefined>;
}

/** A hub in another process. */
export interface RemoteHub extends CommandHub {
  readonly transport: CommandTransport & ClientLister;
  readonly services: HubClients;
}

/** Opens lazily: the first call connects. Throws `invalid-argument` for an address or file that cannot be. */
export async function openHub(options: HubOptions, outside: Outside): Promise<RemoteHub> {
  const access = hubAccess(options, outside);
  const [{ grpcTransport }, { hubClients }] = await Promise.all([
    import('../grpc/grpc-transport.ts'),
    import('../grpc/hub-clients.ts'),
  ]);
  const transport = grpcTransport(access);
  const services = hubClients(access);
  const listClients: ClientLister['listClients'] = async ({ labels = {}, connectedOnly }) => {
    const { clients } = await services.clients.listClients({ labels, connectedOnly });
    return clients.map(({ id }) => id);
  };
  return {
    address: access.address,
    transport: { send: transport.send, listClients },
    services,
    reflect: () => reflectTypes(access),
    async isConnected(clientId) {
      try {
        return (await services.clients.getClient({ clientId })).client?.connected;
      } catch (error) {
        const { code } = toHubError(error);
        if (code === 'not-found') return false;
        if (code === 'permission-denied') return undefined;
        throw error;
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([transport.close(), services.close()]);
    },
  };
}

async function reflectTypes(access: HubAccess): Promise<Schemas> {
  const [{ Client }, { channelParts }, { SeveralChannels }, { schemasFromReflection }] = await Promise.all([
    import('@grpc/grpc-js'),
    import('../grpc/channel.ts'),
    import('../grpc/several-channels.ts'),
    import('../schemas/index.ts'),
  ]);
  const { targets, credentials, options } = channelParts(access);
  const channelOverride = new SeveralChannels(targets, credentials, options);
  const client = new Client(targets[0]!, credentials, { ...options, channelOverride });
  try {
    return await schemasFromReflection(client);
  } finally {
    client.close();
  }
}
