/** The hub's record of a device, as it is shown. */
export interface ClientInfo {
  readonly id: string;
  readonly tenant: string;
  readonly connected: boolean;
  readonly labels: Readonly<Record<string, string>>;
  /** Of the newest session; 0 for a client that only has a mailbox. */
  readonly epoch: number;
  /** Unix ms; undefined while away. */
  readonly connectedAtMs: number | undefined;
  /** Unix ms; undefined if never seen by this process. */
  readonly lastSeenAtMs: number | undefined;
  /** Of the newest ping, in ms. */
  readonly roundTripMs: number | undefined;
  /** Commands in this process that are not terminal. */
  readonly pendingCommands: number;
  readonly node: string;
  readonly agent: string;
  readonly peer: string;
}

export interface ClientFilter {
  /** Only clients that have all of these. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly connectedOnly?: boolean | undefined;
}

/** What there is to know, now or in a moment: from several hubs it takes a moment. */
export type Soon<T> = T | Promise<T>;

/** The clients of one hub, or of several that work together, as they are shown. */
export interface ShownClients {
  list(tenant: string, filter?: ClientFilter): Soon<ClientInfo[]>;
  get(tenant: string, clientId: string): Soon<ClientInfo | undefined>;
  /** Calls back on every connect, disconnect and change of labels. Returns the release. */
  onChange(tenant: string, listener: (client: ClientInfo) => void): () => void;
  /** Closes a client's stream with a goodbye. False when there was none. */
  disconnect(tenant: string, clientId: string, options?: { reason?: string; mayReconnect?: boolean }): Soon<boolean>;
}

/** The clients of a hub. */
export interface Clients {
  list(tenant: string, filter?: ClientFilter): ClientInfo[];
  get(tenant: string, clientId: string): ClientInfo | undefined;
  isConnected(tenant: string, clientId: string): boolean;
  /** Calls back on every connect, disconnect and change of labels. Returns the release. */
  onChange(tenant: string, listener: (client: ClientInfo) => void): () => void;
  /** Closes a client's stream with a goodbye. False when there was none. */
  disconnect(tenant: string, clientId: string, options?: { reason?: string; mayReconnect?: boolean }): boolean;
}
