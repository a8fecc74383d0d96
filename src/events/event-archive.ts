/** What is looked for. Everything that is given has to hold. */
export interface ArchiveQuery {
  readonly tenant: string;
  /** Names of channels; one that ends with `*` stands for all that begin so. Default: all. */
  readonly channels?: readonly string[] | undefined;
  readonly types?: readonly string[] | undefined;
  /** Unix ms, from and up to (not with) which. */
  readonly fromMs?: number | undefined;
  readonly toMs?: number | undefined;
  /** A text that the data has somewhere, whatever its case. */
  readonly text?: string | undefined;
  /** 1 to 1000. */
  readonly limit: number;
  /** `next` of the page before. */
  readonly after?: string | undefined;
}

/** An event of the past. */
export interface ArchivedEvent {
  /** Name of the channel. */
  readonly channel: string;
  /** Where it stands in its channel, in archives that know it. */
  readonly epoch?: number | undefined;
  readonly seq?: number | undefined;
  readonly type: string;
  readonly atMs: number;
  /** As JSON text. */
  readonly data: string;
}

export interface ArchivePage {
  /** Newest first. */
  readonly events: readonly ArchivedEvent[];
  /** Where to go on; undefined: there is nothing more. A page may be shorter than its limit and still have one. */
  readonly next: string | undefined;
}

/** Finds durable events of the past by what they are, across channels. How far back it goes is the archive's own matter. */
export interface EventArchive {
  /** Throws `invalid-argument` for an `after` that is not one of its own. */
  query(query: ArchiveQuery): Promise<ArchivePage>;
  close(): Promise<void>;
}
