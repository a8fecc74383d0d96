export type { LeaseFact } from './facts.ts';
export type { Lease } from './lease.ts';
export type { Acquired, HeldLease, LeaseStore } from './lease-store.ts';
export { memoryLeaseStore } from './memory-lease-store.ts';
export { type AcquireOptions, StreamLeases, type StreamLeasesOptions } from './stream-leases.ts';
