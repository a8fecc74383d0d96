/** What a node tells of the cluster to whoever wants to log or count it. */
export type ClusterFact =
  | { kind: 'node-joined'; node: string; instance: string; address: string; again: boolean }
  /** The lease could not be renewed; streams stay, and it is tried again. */
  | { kind: 'node-renew-failed'; message: string; cause: unknown }
  /** The lease had ended: the node was away, or the directory. What it held it claims again, unless others have. */
  | { kind: 'node-lapsed'; instance: string; held: number; lost: number }
  /** A client moved here. `handed`: live commands that came with it. */
  | { kind: 'client-moved'; tenant: string; clientId: string; fromInstance: string; handed: number }
  /** The node that had the client until now did not answer: its live commands stay behind. */
  | { kind: 'yield-failed'; tenant: string; clientId: string; fromInstance: string; message: string }
  /** A command took a hop to another node. */
  | { kind: 'command-routed'; toInstance: string }
  /** A command was looked for again, as its client or a node has moved. */
  | { kind: 'command-relocated'; tenant: string; clientId: string; commandId: string; reason: string };
