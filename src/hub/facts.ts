import type { HubErrorCode } from '../errors.ts';
import type { TerminalState } from '../protocol/command.ts';

/** Why a session ended. */
export type CloseReason =
  | 'disconnected'
  | 'lost'
  | 'taken-over'
  | 'draining'
  | 'protocol-error'
  | 'unauthenticated'
  | 'permission-denied'
  | 'slow-consumer'
  | 'liveness'
  | 'overloaded';

/** What the hub tells to whoever wants to log or count it. Ids are for logs; never make them metric labels. */
export type HubFact =
  | { kind: 'session-opened'; tenant: string; clientId: string; epoch: number; resumed: boolean; peer: string }
  | {
      kind: 'session-closed';
      tenant: string;
      clientId: string;
      epoch: number;
      reason: CloseReason;
      message: string;
      heldMs: number;
    }
  /** A stream that never became a session. */
  | { kind: 'session-refused'; peer: string; reason: CloseReason; message: string }
  /** Two devices fight for one client id: both are told to come back later and later. */
  | { kind: 'client-contended'; tenant: string; clientId: string; takeovers: number; retryAfterMs: number }
  | { kind: 'ping'; tenant: string; clientId: string; roundTripMs: number }
  | {
      kind: 'command-accepted';
      tenant: string;
      clientId: string;
      commandId: string;
      type: string;
      queued: boolean;
      traceparent: string | undefined;
    }
  | {
      kind: 'command-refused';
      tenant: string;
      clientId: string;
      commandId: string;
      code: HubErrorCode;
      message: string;
    }
  | { kind: 'command-delivered'; tenant: string; clientId: string; commandId: string; afterMs: number }
  | {
      kind: 'command-ended';
      tenant: string;
      clientId: string;
      commandId: string;
      type: string;
      state: TerminalState;
      queued: boolean;
      afterMs: number;
      code: string | undefined;
    }
  /** A frame that changed nothing: a late, repeated or foreign result, progress out of range. It was acknowledged. */
  | { kind: 'frame-ignored'; tenant: string; clientId: string; code: HubErrorCode; message: string }
  /** The store or the log did not take something; the hub goes on and tries again where that makes sense. */
  | { kind: 'store-failed'; operation: string; message: string; cause: unknown };
