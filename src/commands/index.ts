export type { SendReceipt } from './calls.ts';
export {
  type ClientMethod,
  type CommandClient,
  type CommandClientOptions,
  commandClient,
  type MethodVerbs,
  type StreamingMethod,
  type UnaryMethod,
} from './command-client.ts';
export {
  closeTransports,
  type RemoteRoads,
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
