export type {
  ClaimOptions,
  ClaimOutcome,
  ClientClaim,
  ClientDirectory,
  ClientEntry,
  ClientKey,
  Holder,
  NodeInfo,
  NodeLoad,
} from './client-directory.ts';
export { keyOf } from './client-directory.ts';
export type { ClusterFact } from './facts.ts';
export type { LocalHub } from './local-hub.ts';
export { Membership, type MembershipOptions } from './membership.ts';
export {
  type InProcessDirectory,
  type MemoryClientDirectoryOptions,
  memoryClientDirectory,
} from './memory-client-directory.ts';
export { nodeEnd } from './node-end.ts';
export {
  type CommandQuery,
  LinkBroken,
  type LiveClient,
  type MovedCommand,
  type NodeLink,
  type NodeLinks,
} from './node-link.ts';
export { type LookFor, RoutedHub, type RoutedOptions, routed } from './routed.ts';
