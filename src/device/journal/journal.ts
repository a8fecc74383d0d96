/** What a journal knows of one command. */
export interface JournalEntry {
  readonly commandId: string;
  readonly idempotent: boolean;
  /** `acknowledged`: the hub has its result; the entry only serves to recognise a repeated id. */
  readonly state: 'begun' | 'finished' | 'acknowledged';
  /** The encoded `Result`. An acknowledged one may have been forgotten for lack of room. */
  readonly result?: Uint8Array | undefined;
}

/**
 * A device's own record of the commands that it has begun and the results that it has given. It is what keeps a
 * command from being run twice. Where a call answers undefined instead of a promise, the record is already made.
 */
export interface Journal {
  /** Names the lineage: the same over restarts exactly as long as the content is. */
  readonly id: string;
  lookup(commandId: string): JournalEntry | undefined;
  /** Records that a command is about to run. When it rejects, the command must not be run. */
  begin(commandId: string, options: { readonly idempotent: boolean }): Promise<void> | undefined;
  /** Records a result. It is handed on before this resolves: lost in a crash, the command ends as `unknown`. */
  finish(commandId: string, result: Uint8Array): Promise<void> | undefined;
  /** Begun or finished, and not retired; in the order of their begin. */
  unacknowledged(): JournalEntry[];
  /** The hub has these results. Ids without a result are forgotten altogether. */
  retire(commandIds: readonly string[]): Promise<void> | undefined;
  /** Writes what is still to be written, and frees everything. May be called twice. */
  close(): Promise<void>;
}
