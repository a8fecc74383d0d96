import { grpcTransport } from '../../src/grpc/grpc-transport.ts';
import { hubClients } from '../../src/grpc/hub-clients.ts';
import { serveGrpc } from '../../src/grpc/serve-grpc.ts';
import type { CommandUpdate } from '../../src/protocol/command.ts';
import { updateFromProto } from '../../src/protocol/convert.ts';
import { commandTransportContract } from '../contracts/command-transport.ts';
import { authenticatorOf, principal } from './fake-hub.ts';

async function* updates(watched: AsyncIterable<{ update?: Parameters<typeof updateFromProto>[0] }>) {
  for await (const { update } of watched) yield updateFromProto(update) as CommandUpdate;
}

// Callers over node:http2, and over grpc-js, for those who give it options. The token is the caller's tenant.
for (const [name, channelOptions] of Object.entries({ gRPC: undefined, 'gRPC over grpc-js': {} }))
  commandTransportContract(name, async (hub) => {
    const authenticator = authenticatorOf((tenant) => principal({ tenant: tenant ?? 'default' }));
    const server = await serveGrpc({ hub, authenticator, addresses: ['127.0.0.1:0'] });
    const address = server.addresses[0]!;
    const opened: { close(): Promise<void> }[] = [];
    const open = <T extends { close(): Promise<void> }>(one: T): T => {
      opened.push(one);
      return one;
    };
    return {
      as: (token) => open(grpcTransport({ address, token, channelOptions })),
      watch: (token, commandId) => updates(open(hubClients({ address, token })).commands.watchCommand({ commandId })),
      async cancel(token, commandId) {
        const { update } = await open(hubClients({ address, token })).commands.cancelCommand({ commandId });
        return updateFromProto(update);
      },
      async close() {
        for (const one of opened) await one.close();
        await server.close({ timeoutMs: 0 });
      },
    };
  });
