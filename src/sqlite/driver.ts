/**
 * What is used of better-sqlite3. Named here, so that the types of this package need none of its own, which who uses it would
 * have to install.
 */
export interface Database {
  readonly open: boolean;
  readonly inTransaction: boolean;
  prepare<Values extends unknown[] = unknown[], Row = unknown>(sql: string): Statement<Values, Row>;
  /** The function in a transaction; `immediate` takes the lock at its beginning. */
  transaction<Values extends unknown[]>(run: (...values: Values) => void): { immediate(...values: Values): void };
  exec(sql: string): unknown;
  pragma(source: string, options?: { readonly simple?: boolean }): unknown;
  close(): unknown;
}

export interface Statement<Values extends unknown[] = unknown[], Row = unknown> {
  run(...values: Values): { readonly changes: number; readonly lastInsertRowid: number | bigint };
  get(...values: Values): Row | undefined;
  all(...values: Values): Row[];
  iterate(...values: Values): IterableIterator<Row>;
  /** Answers with the first column alone. */
  pluck(): this;
  /** Answers with rows as arrays. */
  raw(): this;
}
