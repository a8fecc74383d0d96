import { HubError } from '../errors.ts';
import type { Command, CommandRecord, CommandUpdate, TerminalUpdate } from '../protocol/command.ts';
import type { ClientKey, NodeInfo } from './client-directory.ts';

/** A live command on its way, given up by one node to the next. Same shape as the hub's. */
export interface MovedCommand {
  readonly command: Command;
  readonly acceptedAtMs: number;
  readonly last: CommandUpdate;
  readonly journal?: string | undefined;
  readonly cancelReason?: string | undefined;
}

/** What only the node that holds a client knows of it. */
export interface LiveClient {
  readonly connected: boolean;
  readonly lastSeenAtMs: number | undefined;
  readonly roundTripMs: number | undefined;
  readonly pendingCommands: number;
}

/**
 * One node as another one uses it. What it says is about this node alone: it sends nothing on. Calls fail with
 * `LinkBroken` when the node cannot be reached, and with the node's own errors otherwise.
 */
export interface NodeLink {
  /** As a hub's `send`; `client-offline` also for queued commands: the client is not (or not any more) held there. */
  send(command: Command, options?: { signal?: AbortSignal | undefined }): AsyncIterable<CommandUpdate>;
  /** Only the end of a live command. */
  settle(command: Command): Promise<TerminalUpdate>;
  watch(
    tenant: string,
    commandId: string,
    options?: { signal?: AbortSignal | undefined; clientId?: string | undefined },
  ): AsyncIterable<CommandUpdate>;
  cancel(
    tenant: string,
    commandId: string,
    reason: string,
    options?: { clientId?: string | undefined },
  ): Promise<CommandUpdate>;
  get(tenant: string, commandId: string, options?: { clientId?: string | undefined }): Promise<CommandRecord>;
  /** Live commands that it knows of a tenant, or of one client. */
  list(filter: CommandQuery): Promise<CommandRecord[]>;
  /** Gives up a client that the asking node has claimed with this epoch, and its live commands. */
  yield(client: ClientKey, epoch: number): Promise<readonly MovedCommand[]>;
  client(client: ClientKey): Promise<LiveClient | undefined>;
  disconnect(client: ClientKey, options: { reason: string; mayReconnect: boolean }): Promise<boolean>;
}

/** Which commands are meant. */
export interface CommandQuery {
  readonly tenant: string;
  readonly clientId?: string | undefined;
  readonly pendingOnly?: boolean | undefined;
  readonly limit: number;
}

/** Roads to the other nodes. Opens with the first use; one for each node, however much goes over it. */
export interface NodeLinks {
  to(node: NodeInfo): NodeLink;
  /** Closes the links to all nodes but these. */
  keepOnly(instances: ReadonlySet<string>): void;
  close(): Promise<void>;
}

/** The other node cannot be reached. */
export class LinkBroken extends HubError {
  /** False: what was asked has certainly not arrived. */
  readonly mayHaveArrived: boolean;

  constructor(message: string, options: { mayHaveArrived: boolean; cause?: unknown }) {
    super('unavailable', message, { retryAfterMs: 1000, ...(options.cause !== undefined && { cause: options.cause }) });
    this.mayHaveArrived = options.mayHaveArrived;
  }
}
