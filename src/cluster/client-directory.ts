/** One running process of the cluster, as the others see it. */
export interface NodeInfo {
  /** Its name, for people. Two processes may have had it one after the other. */
  readonly id: string;
  /** Unique for each time that the process joined: what claims and writes are signed with. */
  readonly instance: string;
  /** Where the other nodes reach it: `host:port`. */
  readonly address: string;
  readonly version: string;
  /** Unix ms, by the node's own clock. */
  readonly startedAtMs: number;
  readonly load: NodeLoad;
}

/** What a node carries; told anew with each renewal of its lease. */
export interface NodeLoad {
  /** Open streams of devices. */
  readonly sessions: number;
  /** True while it sends its devices away. */
  readonly isDraining: boolean;
}

/** Who is meant. Neither tenants nor client ids can hold a slash. */
export interface ClientKey {
  readonly tenant: string;
  readonly clientId: string;
}

/** Who holds a client now: a node whose lease lives. */
export interface Holder {
  /** Of the node. */
  readonly instance: string;
  /** Of the client. */
  readonly epoch: number;
}

/** What is told of a client when it is claimed. */
export interface ClientClaim extends ClientKey {
  readonly labels: Readonly<Record<string, string>>;
  readonly agent: string;
  readonly peer: string;
}

/** A client as the directory knows it. */
export interface ClientEntry extends ClientClaim {
  /** Of the newest claim. */
  readonly epoch: number;
  /** Node that holds it now; undefined while it is away. */
  readonly instance: string | undefined;
  /** Unix ms, by the directory's clock: when it was claimed last. */
  readonly claimedAtMs: number;
  /** Unix ms: when it was released last; undefined while it is held, and if its node died. */
  readonly releasedAtMs: number | undefined;
}

export interface ClaimOptions {
  /** The new epoch is above this one, whatever the directory remembers. Default: 0. */
  readonly afterEpoch?: number | undefined;
  /** Claim only if this is still the client's newest epoch: nobody has claimed it since. Default: in any case. */
  readonly ifEpoch?: number | undefined;
}

export type ClaimOutcome =
  | {
      readonly kind: 'claimed';
      readonly epoch: number;
      /** Of the claim before this one, also if it was released since; 0: none is remembered. */
      readonly lastEpoch: number;
      /** The node of that claim, also if it has released the client since; undefined: its lease has ended. */
      readonly lastInstance: string | undefined;
    }
  /** `ifEpoch` was given, and another claim came since. */
  | { readonly kind: 'taken'; readonly epoch: number }
  /** The lease of the claiming node has ended: it has to join again. */
  | { readonly kind: 'lapsed' };

/**
 * Says which node holds which client. Shared by all nodes; every call is atomic, and may be repeated after a lost
 * answer. The newest claim wins. Epochs of a client only grow, also over a loss of everything that is kept (they begin
 * with the time). A node counts for as long as its lease, by the directory's own clock: what it held is nobody's after
 * that, until it is claimed again.
 *
 * Calls reject with `unavailable` when the directory cannot be reached; a claim may have been made then all the same.
 */
export interface ClientDirectory {
  /** Begins the lease of a node. */
  join(node: NodeInfo, leaseMs: number): Promise<void>;
  /** Goes on with it for as long again. False: it had ended (or was never begun), and nothing was changed. */
  renew(instance: string, load: NodeLoad): Promise<boolean>;
  /** Ends it at once: what the node held is nobody's. An unknown one is no error. */
  leave(instance: string): Promise<void>;
  /** The nodes whose leases live, by id. */
  nodes(): Promise<NodeInfo[]>;

  /** Makes this node the holder. */
  claim(instance: string, client: ClientClaim, options?: ClaimOptions): Promise<ClaimOutcome>;
  /** The client is away. Changes nothing if another claim came since. */
  release(instance: string, client: ClientKey, epoch: number): Promise<void>;
  /** Who holds each of these now, in the same order. */
  holders(clients: readonly ClientKey[]): Promise<(Holder | undefined)[]>;

  /** What is known of one client, held or away. */
  get(client: ClientKey): Promise<ClientEntry | undefined>;
  /** The clients of a tenant that are held, and those away that are still remembered; by client id. */
  list(tenant: string, options?: { readonly heldOnly?: boolean | undefined }): Promise<ClientEntry[]>;

  /**
   * Calls back when another node claims what this one held. Only a hint: it may be lost, or come late. Returns the
   * release.
   */
  onTaken(instance: string, listener: (client: ClientKey, epoch: number) => void): () => void;
  /** Calls back on claims and releases of a tenant's clients, on any node; a hint, too. Returns the release. */
  onChange(tenant: string, listener: (client: ClientEntry) => void): () => void;

  close(): Promise<void>;
}

/** One text for each client. */
export function keyOf({ tenant, clientId }: ClientKey): string {
  return `${tenant}/${clientId}`;
}
