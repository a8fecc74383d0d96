export type { SendReceipt } from './calls.ts';
export type { ClientLister, ClientQuery } from './client-lister.ts';
export {
  type ClientMethod,
  type CommandClient,
  type CommandClientOptions,
  commandClient,
  type MethodVerbs,
  type StreamingMethod,
  type UnaryMethod,
} from './command-client.ts';
export { type Fleet, type FleetClient, type FleetOptions, type FleetSendOptions, fleet } from './fleet.ts';
export type { FleetFailure, FleetOutcome, FleetRun, FleetSummary } from './fleet-run.ts';
export type { FleetSelector } from './fleet-selector.ts';
export {
  closeTransports,
  type RemoteOptions,
  type RemoteRoads,
  type RemoteTls,
  type RemoteTransport,
  type RoadOptions,
  setRemoteRoads,
  type Token,
} from './roads.ts';
export type { SendDefaults, SendOptions } from './send-options.ts';
export {
  clearServices,
  defaultServiceName,
  getService,
  isServiceRegistered,
  listServices,
  registerService,
  ServiceRegistry,
  unregisterService,
} from './service-registry.ts';
export { StreamingCommandClient, type StreamingCommandClientOptions } from './streaming-command-client.ts';
