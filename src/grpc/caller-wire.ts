import type { EndOfCall } from './status.ts';

/** How a call ended, in the server's words or the wire's. */
export interface CallEnd extends EndOfCall {
  /** The request was handed to a connection: the hub may have got it. */
  readonly mayHaveArrived: boolean;
}

/** What a call tells, never from within `call`. */
export interface CallListener {
  onMessage(bytes: Buffer): void;
  /** Called once, last. */
  onEnd(end: CallEnd): void;
}

/** One call that is under way. */
export interface OpenCall {
  /** Number of the hub that it goes to. */
  readonly hub: number;
  /** The request was handed to a connection. */
  readonly mayHaveArrived: boolean;
  pause(): void;
  resume(): void;
  /** Nobody listens any more. The call ends by itself in a moment, or is cancelled in time: nothing more is told. */
  leave(): void;
  /** Cancels it now; nothing more is told. */
  cancel(): void;
}

/** How a caller's calls come to a hub: one request each, and a stream of answers. */
export interface CallerWire {
  /** How many hubs there are to try. */
  readonly hubs: number;
  /** The next call goes to another hub than this one. */
  moveOn(hub: number): void;
  /**
   * Calls a method by its path. In front of the request `messageRoom` bytes are free; `token`: undefined for none. The
   * connection opens with the first call.
   */
  call(method: string, request: Buffer, token: string | undefined, listener: CallListener): OpenCall;
  /** Ends all calls. */
  close(): void;
}
