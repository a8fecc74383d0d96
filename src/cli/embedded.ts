import { HubError } from '../errors.ts';
import type { Clients } from '../hub/client-info.ts';
import type { Schemas } from '../schemas/index.ts';
import type { CommandHub } from './connect.ts';
import type { Outside, Terminal } from './terminal.ts';

/** What `--embedded` goes with. */
export interface EmbeddedOptions {
  embedded?: boolean;
  grpc?: string;
  data?: string;
}

/** Opens a hub in this process, for devices on `--grpc`; commands go to it without leaving the process. */
export async function embedHub(
  { grpc, data }: EmbeddedOptions,
  outside: Outside,
  terminal: Terminal,
): Promise<CommandHub> {
  const { serve } = await import('../server/index.ts');
  const server = await serve(
    { grpc: grpc ?? undefined, http: false, data, logLevel: 'warn', drainTimeoutMs: 5000 },
    { sources: { env: outside.env }, logTo: outside.stderr },
  );
  const address = server.grpc[0]!;
  terminal.tell({ event: 'ready', grpc: address, http: null }, `hub in this process; devices connect to ${address}`);
  const clients: Clients = server.hub.clients;
  return {
    address,
    transport: server.hub,
    reflect: async (): Promise<Schemas> => {
      throw new HubError('unimplemented', 'a hub in this process knows no other types: use --proto');
    },
    isConnected: async (clientId) => clients.isConnected('default', clientId),
    [Symbol.asyncDispose]: () => server.close(),
  };
}
