import type { HubError } from '../errors.ts';
import type { TerminalRunState } from './run.ts';

/** What tasks tell about themselves. */
export type TaskFact =
  | { readonly kind: 'run-triggered'; readonly tenant: string; readonly runId: string; readonly task: string }
  | {
      readonly kind: 'run-started';
      readonly tenant: string;
      readonly runId: string;
      readonly task: string;
      readonly attempt: number;
      /** From when it was due. */
      readonly waitedMs: number;
    }
  /** An attempt failed, and the run is tried again. */
  | {
      readonly kind: 'run-retried';
      readonly tenant: string;
      readonly runId: string;
      readonly task: string;
      readonly attempt: number;
      readonly message: string;
    }
  | {
      readonly kind: 'run-ended';
      readonly tenant: string;
      readonly runId: string;
      readonly task: string;
      readonly state: TerminalRunState;
      readonly code: string | undefined;
      readonly afterMs: number;
    }
  /** The claim went to another worker; what this one still does is refused. */
  | { readonly kind: 'run-lost'; readonly tenant: string; readonly runId: string; readonly task: string }
  /** The store or the log did not take something; it is tried again. */
  | { readonly kind: 'tasks-failed'; readonly operation: string; readonly error: HubError };
