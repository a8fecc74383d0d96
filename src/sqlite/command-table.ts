import { HubError } from '../errors.ts';
import type { AddOutcome, CommandFilter, StoredCommand } from '../hub/command-store.ts';
import { isSameContent, isStateAhead, mailboxFull, supersededBy, takenMessage } from '../hub/stored-command.ts';
import { type CommandState, isTerminalUpdate, type TerminalUpdate } from '../protocol/command.ts';
import { type CommandRow, storedOf } from './command-row.ts';
import { type AddValues, bytesOf, type CommandValues, commandOf, type EndValues, endValues } from './command-values.ts';
import type { Database } from './driver.ts';

/** What is asked of a command that ends. */
interface EndedRow {
  tenant: string;
  client_id: string;
  bytes: number;
}

/** What one client's mailbox holds. */
interface Mailbox {
  commands: number;
  bytes: number;
}

/** States that are noted before the end. */
const plainStates = ['queued', 'sent', 'delivered', 'started', 'progress'] as const;

/** Mailboxes whose size is remembered, so that not every `add` has to count. */
const rememberedMailboxes = 50_000;

/** The queued commands in the database. Runs in the store's thread; the caller makes the transactions. */
export class CommandTable {
  readonly #db: Database;
  readonly #mailboxes = new Map<string, Mailbox>();
  readonly #byId;
  readonly #byKey;
  readonly #insert;
  readonly #sent;
  readonly #advance;
  readonly #end;
  readonly #replaced;
  readonly #mailbox;
  readonly #size;
  readonly #due;
  readonly #tooOld;
  readonly #tooMany;
  readonly #delete;

  constructor(db: Database) {
    this.#db = db;
    this.#byId = db.prepare<[string], CommandRow>('SELECT * FROM commands WHERE id = ?');
    this.#byKey = db.prepare<[string, string, string], CommandRow>(
      'SELECT * FROM commands WHERE tenant = ? AND client_id = ? AND idempotency_key = ?',
    );
    this.#insert = db.prepare<unknown[]>(
      `INSERT INTO commands (id, tenant, client_id, payload_type, payload, when_offline, timeout_ms, wait_for_connect_ms,
         ttl_ms, idempotent, idempotency_key, ordering_key, coalesce_key, traceparent, accepted_at_ms, due_at_ms,
         sent_to_journal, state, state_at_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?)`,
    );
    this.#sent = db.prepare<[string, number, string]>(
      'UPDATE commands SET sent_to_journal = ?, due_at_ms = ? WHERE id = ? AND ended_at_ms IS NULL',
    );
    this.#advance = new Map(
      plainStates.map((to) => {
        const before = plainStates.filter((from) => isStateAhead(from, to)).map((from) => `'${from}'`);
        const sql = `UPDATE commands SET state = '${to}', state_at_ms = ? WHERE id = ? AND state IN (${before})`;
        return [to as CommandState, db.prepare<[number, string]>(sql)];
      }),
    );
    this.#end = db.prepare<unknown[], EndedRow>(
      `UPDATE commands SET state = ?, state_at_ms = ?, ended_at_ms = ?, result_type = ?, result = ?, error_code = ?,
         error_message = ? WHERE id = ? AND ended_at_ms IS NULL
         RETURNING tenant, client_id, length(payload) AS bytes`,
    );
    this.#replaced = db.prepare<[string, string, string, number, string], CommandRow>(
      `SELECT * FROM commands WHERE tenant = ? AND client_id = ? AND ended_at_ms IS NULL AND coalesce_key = ?
         AND (position > ? AND sent_to_journal IS NULL OR id IN (SELECT value FROM json_each(?))) ORDER BY position`,
    );
    this.#mailbox = db.prepare<[string, string, number, number], CommandRow>(
      `SELECT * FROM commands WHERE tenant = ? AND client_id = ? AND ended_at_ms IS NULL AND position > ?
         ORDER BY position LIMIT ?`,
    );
    this.#size = db.prepare<[string, string], Mailbox>(
      `SELECT count(*) AS commands, coalesce(sum(length(payload)), 0) AS bytes FROM commands
         WHERE tenant = ? AND client_id = ? AND ended_at_ms IS NULL`,
    );
    this.#due = db.prepare<[number, number], CommandRow>(
      'SELECT * FROM commands WHERE ended_at_ms IS NULL AND due_at_ms <= ? ORDER BY due_at_ms, position LIMIT ?',
    );
    this.#tooOld = db.prepare<[number, number], { position: number }>(
      `SELECT position FROM commands WHERE ended_at_ms IS NOT NULL AND ended_at_ms < ?
         ORDER BY ended_at_ms, position LIMIT ?`,
    );
    this.#tooMany = db.prepare<[number, number], { position: number }>(
      `SELECT position FROM commands WHERE ended_at_ms IS NOT NULL
         ORDER BY ended_at_ms DESC, position DESC LIMIT ? OFFSET ?`,
    );
    this.#delete = db.prepare<[number]>('DELETE FROM commands WHERE position = ?');
  }

  /** Forgets what it remembers of the database: after a rollback that may be wrong. */
  forget(): void {
    this.#mailboxes.clear();
  }

  /** The position of one that was stored and replaced none, else what became of it. */
  add(values: CommandValues, options: AddValues): number | AddOutcome {
    const [id, tenant, clientId, , , , , , , , idempotencyKey, , coalesceKey] = values;
    const [nowMs, dueAtMs, sentToJournal, maxCommands, maxBytes, supersede] = options;
    const known =
      this.#byId.get(id) ?? (idempotencyKey ? this.#byKey.get(tenant, clientId, idempotencyKey) : undefined);
    if (known) {
      const stored = storedOf(known);
      const command = commandOf(values);
      return isSameContent(stored.command, command)
        ? { kind: 'existing', stored }
        : { kind: 'conflict', message: takenMessage(command, stored.command) };
    }
    const replaced =
      coalesceKey && supersede
        ? this.#replaced.all(tenant, clientId, coalesceKey, supersede.afterPosition, JSON.stringify(supersede.ids))
        : [];
    const payload = bytesOf(values[4]);
    const size = this.#sizeOf(tenant, clientId);
    let bytes = size.bytes + payload.byteLength;
    for (const old of replaced) bytes -= old.payload.byteLength;
    const waiting = size.commands - replaced.length;
    if (waiting >= maxCommands || bytes > maxBytes)
      return { kind: 'full', message: mailboxFull(commandOf(values), waiting, bytes, { maxCommands, maxBytes }) };

    const superseded = replaced.map((row) => {
      const update = supersededBy(storedOf(row).command, commandOf(values), nowMs);
      this.#finish(endValues(update));
      return { ...storedOf(row), last: update };
    });
    const { lastInsertRowid } = this.#insert.run(
      ...values.slice(0, 4),
      payload,
      ...values.slice(5),
      nowMs,
      dueAtMs,
      sentToJournal,
      nowMs,
    );
    size.commands++;
    size.bytes += payload.byteLength;
    const position = Number(lastInsertRowid);
    if (superseded.length === 0) return position;
    const stored: StoredCommand = {
      command: commandOf(values),
      position,
      acceptedAtMs: nowMs,
      dueAtMs,
      sentToJournal: sentToJournal ?? undefined,
      last: { commandId: id, clientId, atMs: nowMs, state: 'queued' },
    };
    return { kind: 'stored', stored, superseded };
  }

  markSent(marks: readonly { readonly id: string; readonly dueAtMs: number }[], journal: string): void {
    for (const { id, dueAtMs } of marks) this.#sent.run(journal, dueAtMs, id);
  }

  advance(id: string, state: CommandState, atMs: number): void {
    this.#advance.get(state)?.run(atMs, id);
  }

  /** Undefined: this end stands; else the one that does. */
  finish(end: EndValues): TerminalUpdate | undefined {
    if (this.#finish(end)) return undefined;
    const row = this.#byId.get(end[0]);
    const last = row && storedOf(row).last;
    if (last && isTerminalUpdate(last)) return last;
    throw new HubError('not-found', `no stored command ${end[0]}`);
  }

  get(id: string): StoredCommand | undefined {
    const row = this.#byId.get(id);
    return row && storedOf(row);
  }

  mailbox(tenant: string, clientId: string, after: number, limit: number): StoredCommand[] {
    return this.#mailbox.all(tenant, clientId, after, limit).map(storedOf);
  }

  due(nowMs: number, limit: number): StoredCommand[] {
    return this.#due.all(nowMs, limit).map(storedOf);
  }

  list({ tenant, clientId, pendingOnly, limit }: CommandFilter): StoredCommand[] {
    const where = ['tenant = ?'];
    const values: unknown[] = [tenant];
    if (clientId !== undefined) {
      where.push('client_id = ?');
      values.push(clientId);
    }
    if (pendingOnly) where.push('ended_at_ms IS NULL');
    return this.#db
      .prepare<unknown[], CommandRow>(
        `SELECT * FROM commands WHERE ${where.join(' AND ')} ORDER BY position DESC LIMIT ?`,
      )
      .all(...values, limit)
      .map(storedOf);
  }

  count(tenant?: string, clientId?: string): number {
    if (tenant !== undefined && clientId !== undefined) return this.#sizeOf(tenant, clientId).commands;
    const where = tenant === undefined ? '' : 'AND tenant = ?';
    return this.#db
      .prepare<unknown[], number>(`SELECT count(*) FROM commands WHERE ended_at_ms IS NULL ${where}`)
      .pluck()
      .get(...(tenant === undefined ? [] : [tenant])) as number;
  }

  /** Forgets at most `slice` ended commands beyond the limits. */
  prune(endedBeforeMs: number, maxEnded: number, slice: number): number {
    let rows = this.#tooOld.all(endedBeforeMs, slice);
    if (rows.length === 0 && Number.isFinite(maxEnded)) rows = this.#tooMany.all(slice, maxEnded);
    for (const { position } of rows) this.#delete.run(position);
    return rows.length;
  }

  #finish([id, state, atMs, typeOrCode, resultOrMessage]: EndValues): boolean {
    const isSuccess = state === 'succeeded';
    const row = this.#end.get(
      state,
      atMs,
      atMs,
      isSuccess ? typeOrCode : null,
      isSuccess ? bytesOf(resultOrMessage) : null,
      isSuccess ? null : typeOrCode,
      isSuccess ? null : resultOrMessage,
      id,
    );
    const size = row && this.#mailboxes.get(`${row.tenant}/${row.client_id}`);
    if (size) {
      size.commands--;
      size.bytes -= row.bytes;
    }
    return row !== undefined;
  }

  #sizeOf(tenant: string, clientId: string): Mailbox {
    const owner = `${tenant}/${clientId}`;
    let size = this.#mailboxes.get(owner);
    if (!size) {
      size = this.#size.get(tenant, clientId) ?? { commands: 0, bytes: 0 };
      if (this.#mailboxes.size >= rememberedMailboxes) this.#mailboxes.clear();
      this.#mailboxes.set(owner, size);
    }
    return size;
  }
}
