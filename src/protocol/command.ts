/** A typed value that the hub carries and never looks into. */
export interface Payload {
  /** Full name of the message type, or of the method for service contracts: `pkg.v1.Service/Method`. */
  readonly type: string;
  readonly value: Uint8Array;
}

/** One order for one client. */
export interface Command {
  /** Unique, at most 64 of `A-Z a-z 0-9 _ -`; chosen by the caller, so that a repeated send is recognised. */
  readonly id: string;
  /** Whose clients are meant. Commands never cross tenants. */
  readonly tenant: string;
  readonly clientId: string;
  readonly payload: Payload;
  /** `fail`: a live command, in memory, needs a stream. `queue`: stored before it is accepted. */
  readonly whenOffline: 'fail' | 'queue';
  /** Live: its whole life from acceptance, in ms. Queued: how long it may run once the device has it; 0 for no limit. */
  readonly timeoutMs: number;
  /** Live: how long to wait for the client to connect, in ms. */
  readonly waitForConnectMs: number;
  /** Queued: how long it may wait to be sent, in ms from acceptance. */
  readonly ttlMs: number;
  /** True when running it twice does no harm. */
  readonly idempotent: boolean;
  /** Two sends with the same key to the same client are one command. */
  readonly idempotencyKey?: string | undefined;
  /** Commands of one client with the same key run one after the other. */
  readonly orderingKey?: string | undefined;
  /** A newer queued command with the same key replaces those not sent yet. */
  readonly coalesceKey?: string | undefined;
  /** W3C trace context. */
  readonly traceparent?: string | undefined;
}

/** How a command can end. A terminal state never changes. */
export type TerminalState = 'succeeded' | 'failed' | 'rejected' | 'cancelled' | 'expired' | 'unknown';

/** Where a command is in its life. States never go back and may be skipped. */
export type CommandState = 'queued' | 'sent' | 'delivered' | 'started' | 'progress' | TerminalState;

/** What a running command tells before its end. */
export interface Progress {
  /** Part done, 0 to 1. */
  readonly fraction?: number | undefined;
  /** A note for people. */
  readonly note?: string | undefined;
  /** One item of a server-streaming method. */
  readonly item?: Payload | undefined;
  /** With an item: its number, from 1, given by the hub. A jump means that items were lost with a connection. */
  readonly itemNumber?: number | undefined;
}

/** Why a command did not succeed. */
export interface CommandError {
  /** A stable word: the device's own, or one of ours (`superseded`, `interrupted`, `timed-out`...). */
  readonly code: string;
  readonly message: string;
}

interface UpdateBase {
  readonly commandId: string;
  readonly clientId: string;
  /** Unix milliseconds, by the hub's clock. */
  readonly atMs: number;
}

/** One step in a command's life. */
export type CommandUpdate =
  | (UpdateBase & { readonly state: 'queued' | 'sent' | 'delivered' | 'started' })
  | (UpdateBase & { readonly state: 'progress'; readonly progress: Progress })
  | (UpdateBase & { readonly state: 'succeeded'; readonly result: Payload })
  | (UpdateBase & { readonly state: Exclude<TerminalState, 'succeeded'>; readonly error: CommandError });

/** The last update of a command. */
export type TerminalUpdate = Extract<CommandUpdate, { state: TerminalState }>;

export function isTerminal(state: CommandState): state is TerminalState {
  switch (state) {
    case 'succeeded':
    case 'failed':
    case 'rejected':
    case 'cancelled':
    case 'expired':
    case 'unknown':
      return true;
    default:
      return false;
  }
}

export function isTerminalUpdate(update: CommandUpdate): update is TerminalUpdate {
  return isTerminal(update.state);
}

/** What is known of one command. */
export interface CommandRecord {
  readonly command: Command;
  readonly acceptedAtMs: number;
  readonly last: CommandUpdate;
}
