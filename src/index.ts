import { setRemoteRoads } from './commands/index.ts';
import { lazyTransport } from './commands/lazy-transport.ts';
import type { HubClients } from './grpc/hub-clients.ts';

export {
  type ClientLister,
  type ClientMethod,
  type ClientQuery,
  type CommandClient,
  type CommandClientOptions,
  clearServices,
  closeTransports,
  commandClient,
  defaultServiceName,
  type Fleet,
  type FleetClient,
  type FleetFailure,
  type FleetOptions,
  type FleetOutcome,
  type FleetRun,
  type FleetSelector,
  type FleetSendOptions,
  type FleetSummary,
  fleet,
  getService,
  isServiceRegistered,
  listServices,
  type MethodVerbs,
  type RemoteOptions,
  type RemoteRoads,
  type RemoteTls,
  type RemoteTransport,
  type RoadOptions,
  registerService,
  type SendDefaults,
  type SendOptions,
  type SendReceipt,
  ServiceRegistry,
  StreamingCommandClient,
  type StreamingCommandClientOptions,
  type StreamingMethod,
  setRemoteRoads,
  type Token,
  type UnaryMethod,
  unregisterService,
} from './commands/index.ts';
export { HubError, type HubErrorCode, type HubErrorOptions, toHubError } from './errors.ts';
export { type CommandCodec, type MessageType, protoCodec } from './protocol/codec.ts';
export {
  type Command,
  type CommandError,
  type CommandRecord,
  type CommandState,
  type CommandUpdate,
  isTerminal,
  isTerminalUpdate,
  type Payload,
  type Progress,
  type TerminalState,
  type TerminalUpdate,
} from './protocol/command.ts';
export type { CommandTransport, TellOptions } from './protocol/command-transport.ts';
export type { DeepPartial, MethodDefinition, ServiceDefinition } from './protocol/service-definition.ts';

// Callers of hubs in other processes go by gRPC, which is loaded with their first command.
setRemoteRoads({
  defaultAddress: () => process.env.SIGNALBOX_ADDRESS,
  defaultToken: () => process.env.SIGNALBOX_TOKEN,
  connect: (address, options) =>
    lazyTransport(async () => {
      const [{ grpcTransport }, { hubClients }] = await Promise.all([
        import('./grpc/grpc-transport.ts'),
        import('./grpc/hub-clients.ts'),
      ]);
      const transport = grpcTransport({ address, ...options });
      let hub: HubClients | undefined;
      return {
        send: transport.send,
        settle: transport.settle,
        async listClients({ labels = {}, connectedOnly }) {
          hub ??= hubClients({ address, ...options });
          const { clients } = await hub.clients.listClients({ labels, connectedOnly });
          return clients.map(({ id }) => id);
        },
        async close() {
          await Promise.all([transport.close(), hub?.close()]);
        },
      };
    }),
});
