export type { Claim, ClaimedClient, ClientClaims, HandedCommand } from './client-claims.ts';
export type { ClientFilter, ClientInfo, Clients, ShownClients } from './client-info.ts';
export {
  type AddOptions,
  type AddOutcome,
  type CommandFilter,
  type CommandOwner,
  type CommandStore,
  FencedError,
  type Hold,
  type SentMark,
  type StoredCommand,
  type WriteOptions,
} from './command-store.ts';
export type { DeviceIdentity, DeviceStream, DeviceStreamListener } from './device-stream.ts';
export type { DrainOptions } from './drain.ts';
export type { CloseReason, HubFact } from './facts.ts';
export { Hub } from './hub.ts';
export { memoryCommandStore } from './memory-command-store.ts';
export type { HubOptions } from './options.ts';
