import { HubError } from '../errors.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';

/** Which clients are asked for. */
export interface ClientQuery {
  readonly tenant: string;
  /** Only those with all of these labels. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  /** Only those with a live stream. */
  readonly connectedOnly: boolean;
}

/** Tells which clients there are: the hub in this process, or its `ClientService`. */
export interface ClientLister {
  /** The ids of the clients that match. */
  listClients(query: ClientQuery): Promise<readonly string[]>;
}

/** The clients of a hub in this process. */
interface HubLike {
  readonly clients: {
    list(
      tenant: string,
      filter: Omit<ClientQuery, 'tenant'>,
    ): readonly { readonly id: string }[] | Promise<readonly { readonly id: string }[]>;
  };
}

/** The lister that belongs to a road. Throws `unimplemented` when the road knows none. */
export function listerOf(road: CommandTransport): ClientLister {
  const known = road as CommandTransport & Partial<ClientLister> & Partial<HubLike>;
  if (typeof known.listClients === 'function') return known as ClientLister;
  const { clients } = known;
  if (typeof clients?.list !== 'function')
    throw new HubError('unimplemented', 'this road cannot list clients: give ids, or a ClientLister as `clients`');
  return { listClients: async ({ tenant, ...filter }) => (await clients.list(tenant, filter)).map(({ id }) => id) };
}
