import type { Command, CommandRecord, CommandUpdate, TerminalUpdate } from '../protocol/command.ts';
import type { TellOptions } from '../protocol/command-transport.ts';
import type { ClientClaim } from './client-directory.ts';
import type { CommandQuery, LiveClient, MovedCommand } from './node-link.ts';

/** A client as the local hub shows it. */
export interface LocalClient extends LiveClient {
  readonly id: string;
  readonly tenant: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly epoch: number;
  readonly connectedAtMs: number | undefined;
  readonly node: string;
  readonly agent: string;
  readonly peer: string;
}

/** What the cluster needs of this node's hub. */
export interface LocalHub {
  readonly clients: {
    list(
      tenant: string,
      filter?: {
        readonly labels?: Readonly<Record<string, string>> | undefined;
        readonly connectedOnly?: boolean | undefined;
      },
    ): LocalClient[];
    get(tenant: string, clientId: string): LocalClient | undefined;
    isConnected(tenant: string, clientId: string): boolean;
    onChange(tenant: string, listener: (client: LocalClient) => void): () => void;
    disconnect(tenant: string, clientId: string, options?: { reason?: string; mayReconnect?: boolean }): boolean;
  };
  readonly load: { readonly sessions: number };
  readonly isDraining: boolean;
  send(command: Command, options?: TellOptions): AsyncIterable<CommandUpdate>;
  settle<T>(command: Command, read: (end: TerminalUpdate) => T): Promise<T>;
  watch(
    tenant: string,
    commandId: string,
    options?: { signal?: AbortSignal | undefined; clientId?: string | undefined },
  ): AsyncIterable<CommandUpdate>;
  get(tenant: string, commandId: string, options?: { clientId?: string | undefined }): Promise<CommandRecord>;
  list(filter: CommandQuery): Promise<CommandRecord[]>;
  cancel(
    tenant: string,
    commandId: string,
    reason: string,
    options?: { clientId?: string | undefined },
  ): Promise<CommandUpdate>;
  held(from?: number, count?: number): (ClientClaim & { readonly epoch: number })[];
  lost(tenant: string, clientId: string, epoch: number): void;
  yield(tenant: string, clientId: string, epoch: number): Promise<MovedCommand[]>;
  renewed(tenant: string, clientId: string, epoch: number): void;
}
