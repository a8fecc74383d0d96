import { HubError } from '../errors.ts';
import type { Database } from './driver.ts';

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
  // Runs of tasks. `phase` says in which line a run stands: 0 waits for its time, 1 is ready, 2 waits for a place of
  // its limit key, 3 is running, 4 has ended.
  `CREATE TABLE runs (
     position INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL, task TEXT NOT NULL,
     input TEXT NOT NULL, owner TEXT, tags TEXT NOT NULL, priority INTEGER NOT NULL, idempotency_key TEXT,
     concurrency TEXT, limit_key TEXT, phase INTEGER NOT NULL, state TEXT NOT NULL, epoch INTEGER NOT NULL,
     failures INTEGER NOT NULL, crashes INTEGER NOT NULL, due_at_ms ANY NOT NULL, deadline_ms ANY,
     claimed_until_ms ANY, created_at_ms ANY NOT NULL, started_at_ms ANY, updated_at_ms ANY NOT NULL, ended_at_ms ANY,
     cancel_reason TEXT, checkpoint TEXT, result TEXT, error_code TEXT, error_message TEXT,
     announced INTEGER NOT NULL DEFAULT 0) STRICT;
   CREATE UNIQUE INDEX runs_by_key ON runs (tenant, task, idempotency_key) WHERE idempotency_key IS NOT NULL;
   CREATE INDEX runs_by_tenant ON runs (tenant, position);
   CREATE INDEX runs_by_owner ON runs (tenant, owner, position) WHERE owner IS NOT NULL;
   CREATE INDEX runs_later ON runs (due_at_ms) WHERE phase = 0;
   CREATE INDEX runs_ready ON runs (priority DESC, position) WHERE phase = 1;
   CREATE INDEX runs_claimed ON runs (claimed_until_ms) WHERE phase = 3;
   CREATE INDEX runs_limited ON runs (limit_key, phase, position) WHERE limit_key IS NOT NULL AND phase < 4;
   CREATE INDEX runs_with_deadline ON runs (deadline_ms) WHERE phase < 3 AND deadline_ms IS NOT NULL;
   CREATE INDEX runs_unannounced ON runs (position) WHERE phase = 4 AND announced = 0;
   CREATE INDEX runs_ended ON runs (ended_at_ms, position) WHERE phase = 4;`,
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
