import type { ClusterFact } from '../cluster/index.ts';
import type { GatewayFact } from '../gateway/facts.ts';
import type { GrpcFact } from '../grpc/facts.ts';
import type { HubFact } from '../hub/facts.ts';
import type { LeaseFact } from '../leases/index.ts';
import type { ArchiveFact } from '../opensearch/index.ts';
import type { RedisFact } from '../redis/index.ts';
import type { StoreFact } from '../sqlite/index.ts';
import type { TaskFact } from '../tasks/index.ts';

/** What the process itself tells. */
export type ProcessFact =
  | {
      readonly kind: 'server-ready';
      readonly grpc: readonly string[];
      readonly http: readonly string[];
      readonly auth: string;
    }
  | { readonly kind: 'server-open'; readonly message: string }
  | { readonly kind: 'server-advice'; readonly message: string }
  | { readonly kind: 'server-draining'; readonly timeoutMs: number }
  | { readonly kind: 'server-closed' }
  | { readonly kind: 'server-close-failed'; readonly part: string; readonly message: string; readonly cause: unknown };

/** A fact of a part that this file does not know (yet). */
export interface OtherFact {
  readonly kind: string;
}

export type ServerFact =
  | HubFact
  | GrpcFact
  | GatewayFact
  | StoreFact
  | RedisFact
  | ClusterFact
  | LeaseFact
  | TaskFact
  | ArchiveFact
  | ProcessFact;
export type Observe = (fact: ServerFact | OtherFact) => void;

/** Tells one fact to many; a listener that throws harms neither the others nor the part that spoke. */
export function toAll(...listeners: readonly Observe[]): Observe {
  return (fact) => {
    for (const listener of listeners)
      try {
        listener(fact);
      } catch (error) {
        process.emitWarning(`an observer of Signalbox threw: ${String(error)}`, 'SignalboxObserverWarning');
      }
  };
}
