import type { ArchivedEvent, ArchiveQuery } from '../events/event-archive.ts';
import type { Database } from './driver.ts';

/** Events looked at in one call, so that others get their turn in between. */
const windowSize = 20_000;

interface ArchiveRow {
  readonly id: number;
  readonly key: string;
  readonly epoch: number;
  readonly seq: number;
  readonly type: string;
  readonly at_ms: number;
  readonly data: string;
}

/** The durable events again, to be looked through by what they are. Runs in the store's thread. */
export class ArchiveTable {
  readonly #db: Database;
  readonly #newest;
  readonly #oldest;

  constructor(db: Database) {
    this.#db = db;
    this.#newest = db.prepare<[], number>('SELECT coalesce(max(id), 0) FROM events').pluck();
    this.#oldest = db.prepare<[], number>('SELECT coalesce(min(id), 0) FROM events').pluck();
  }

  /** What is found among the next events before `before`, newest first, and where to go on; 0: nowhere. */
  search(query: ArchiveQuery, before: number): { events: ArchivedEvent[]; next: number } {
    const top = before > 0 ? before : (this.#newest.get() ?? 0) + 1;
    const floor = Math.max(top - windowSize, this.#oldest.get() ?? 0);
    const where = ['events.id < ?', 'events.id >= ?', 'substr(channels.key, 1, ?) = ?'];
    const prefix = `${query.tenant}/`;
    const values: unknown[] = [top, floor, prefix.length, prefix];
    if (query.channels) {
      const each = query.channels.map((channel) => {
        const isPattern = channel.endsWith('*');
        const key = `${prefix}${isPattern ? channel.slice(0, -1) : channel}`;
        values.push(...(isPattern ? [key.length, key] : [key]));
        return isPattern ? 'substr(channels.key, 1, ?) = ?' : 'channels.key = ?';
      });
      where.push(`(${each.join(' OR ') || '0'})`);
    }
    if (query.types) {
      where.push('events.type IN (SELECT value FROM json_each(?))');
      values.push(JSON.stringify(query.types));
    }
    if (query.fromMs !== undefined) {
      where.push('events.at_ms >= ?');
      values.push(query.fromMs);
    }
    if (query.toMs !== undefined) {
      where.push('events.at_ms < ?');
      values.push(query.toMs);
    }
    if (query.text) {
      where.push("events.data LIKE ? ESCAPE '\\'");
      values.push(`%${query.text.replaceAll(/[\\%_]/g, '\\$&')}%`);
    }
    const rows = this.#db
      .prepare<unknown[], ArchiveRow>(
        `SELECT events.id, channels.key, events.epoch, events.seq, events.type, events.at_ms, events.data
           FROM events JOIN channels ON channels.id = events.channel
           WHERE ${where.join(' AND ')} ORDER BY events.id DESC LIMIT ?`,
      )
      .all(...values, query.limit);
    const events = rows.map(({ key, epoch, seq, type, at_ms: atMs, data }) => ({
      channel: key.slice(prefix.length),
      epoch,
      seq,
      type,
      atMs,
      data,
    }));
    if (rows.length === query.limit) return { events, next: rows.at(-1)!.id };
    return { events, next: floor > (this.#oldest.get() ?? 0) ? floor : 0 };
  }
}
