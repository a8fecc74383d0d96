import type { Database } from 'better-sqlite3';
import { HubError } from '../errors.ts';

/** Written into the file's header ("SgBx"), so that nobody else's database is mistaken for ours. */
export const applicationId = 0x53674278;

/**
 * How the schema came to be: entry n makes version n + 1. Entries that were released never change; what is to be
 * different is a new entry.
 */
export const migrations: readonly string[] = [
  `CREATE TABLE epochs (epoch INTEGER PRIMARY KEY, started_at_ms INTEGER NOT NULL) STRICT;
   CREATE TABLE channels (
     id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, events INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
   CREATE TABLE events (
     id INTEGER PRIMARY KEY AUTOINCREMENT, channel INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL,
     type TEXT NOT NULL, at_ms ANY NOT NULL, kept_ms INTEGER NOT NULL, data TEXT NOT NULL,
     UNIQUE (channel, epoch, seq)) STRICT;
   CREATE TABLE producers (
     channel TEXT NOT NULL, producer TEXT NOT NULL, seq INTEGER NOT NULL, kept_ms INTEGER NOT NULL,
     PRIMARY KEY (channel, producer)) STRICT, WITHOUT ROWID;
   CREATE TABLE commands (
     position INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, client_id TEXT NOT NULL,
     payload_type TEXT NOT NULL, payload BLOB NOT NULL, when_offline TEXT NOT NULL, timeout_ms ANY NOT NULL,
     wait_for_connect_ms ANY NOT NULL, ttl_ms ANY NOT NULL, idempotent INTEGER NOT NULL, idempotency_key TEXT,
     ordering_key TEXT, coalesce_key TEXT, traceparent TEXT, accepted_at_ms ANY NOT NULL, due_at_ms ANY NOT NULL,
     sent_to_journal TEXT, state TEXT NOT NULL, state_at_ms ANY NOT NULL, ended_at_ms ANY,
     result_type TEXT, result BLOB, error_code TEXT, error_message TEXT) STRICT;
   CREATE UNIQUE INDEX commands_by_key ON commands (tenant, client_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
   CREATE INDEX commands_by_client ON commands (tenant, client_id, position);
   CREATE INDEX commands_pending ON commands (tenant, client_id, position) WHERE ended_at_ms IS NULL;
   CREATE INDEX commands_due ON commands (due_at_ms, position) WHERE ended_at_ms IS NULL;`,
  // Forgetting ended commands must not read all that are kept.
  'CREATE INDEX commands_ended ON commands (ended_at_ms, position) WHERE ended_at_ms IS NOT NULL;',
  `CREATE TABLE leases (
     key TEXT NOT NULL, id TEXT NOT NULL, ttl_ms ANY NOT NULL, ends_at_ms ANY NOT NULL,
     PRIMARY KEY (key, id)) STRICT, WITHOUT ROWID;
   CREATE INDEX leases_end ON leases (ends_at_ms);`,
];

/** Throws unless `db` is ours (or empty) and not from a newer Signalbox. Returns its schema version, 0 for an empty one. */
export function checkOwner(db: Database, path: string): number {
  const owner = db.pragma('application_id', { simple: true });
  const version = db.pragma('user_version', { simple: true }) as number;
  if (owner !== applicationId) {
    const tables = db.prepare('SELECT count(*) FROM sqlite_schema').pluck().get();
    if (owner !== 0 || version !== 0 || tables !== 0)
      throw new HubError(
        'unavailable',
        `${path} is a database of another program (application id ${owner}): choose another data directory`,
      );
  }
  if (version > migrations.length)
    throw new HubError(
      'unavailable',
      `${path} has schema version ${version}, newer than this Signalbox knows (${migrations.length}): run the newer Signalbox, or restore a backup from before it`,
    );
  return version;
}

/** Brings a database that passed `checkOwner` to the newest schema, in one transaction. Returns the version it had. */
export function migrate(db: Database, path: string): number {
  const version = checkOwner(db, path);
  if (version === migrations.length) return version;
  db.transaction(() => {
    for (const step of migrations.slice(version)) db.exec(step);
    db.pragma(`application_id = ${applicationId}`);
    db.pragma(`user_version = ${migrations.length}`);
  }).immediate();
  return version;
}
