import type { TerminalUpdate } from '../protocol/command.ts';
import { ArchiveTable } from './archive-table.ts';
import { CommandTable } from './command-table.ts';
import type { EndValues } from './command-values.ts';
import type { Database } from './driver.ts';
import { type EventRetention, type EventRow, EventTable } from './event-table.ts';
import { type EventValues, eventRow } from './event-values.ts';
import { LeaseTable } from './lease-table.ts';
import { type EndValues as RunEndValues, RunTable } from './run-table.ts';

/** Everything the store's thread can be asked, by name. Each is one atomic call. */
export function storeOperations(db: Database, retention: EventRetention) {
  const commands = new CommandTable(db);
  const events = new EventTable(db, retention);
  const leases = new LeaseTable(db);
  const runs = new RunTable(db);
  const archive = new ArchiveTable(db);
  return {
    add: commands.add.bind(commands),
    markSent: commands.markSent.bind(commands),
    advance: commands.advance.bind(commands),
    finish: commands.finish.bind(commands),
    /** The end of a command and what tells of it: both, or neither. */
    finishTold(end: EndValues, told: EventValues, nowMs: number): TerminalUpdate | undefined {
      const other = commands.finish(end);
      if (other === undefined) events.append(eventRow(told), nowMs);
      return other;
    },
    pruneCommands: commands.prune.bind(commands),
    append: (row: EventValues, nowMs: number): void => events.append(eventRow(row), nowMs),
    pruneEvents: events.prune.bind(events),
    beginEpoch: events.beginEpoch.bind(events),
    acquireLease: leases.acquire.bind(leases),
    refreshLease: leases.refresh.bind(leases),
    releaseLease: leases.release.bind(leases),
    pruneLeases: leases.prune.bind(leases),
    setLeaseClock: leases.setClock.bind(leases),
    addRun: runs.add.bind(runs),
    claimRuns: runs.claim.bind(runs),
    renewClaims: runs.renew.bind(runs),
    checkpointRun: runs.checkpoint.bind(runs),
    settleRun: runs.settle.bind(runs),
    /** The end of a run and what tells of it: both, or neither. */
    endRun(id: string, epoch: number, end: RunEndValues, nowMs: number, told: readonly EventRow[]): boolean {
      if (!runs.endTold(id, epoch, end, nowMs)) return false;
      for (const row of told) events.append(row, nowMs);
      return true;
    },
    cancelRun: runs.cancel.bind(runs),
    runsAnnounced: runs.announced.bind(runs),
    pruneRuns: runs.prune.bind(runs),
    orphanRuns: runs.orphan.bind(runs),

    get: commands.get.bind(commands),
    mailbox: commands.mailbox.bind(commands),
    due: commands.due.bind(commands),
    list: commands.list.bind(commands),
    count: commands.count.bind(commands),
    lastFrom: events.lastFrom.bind(events),
    readEvents: events.read.bind(events),
    listLeases: leases.list.bind(leases),
    searchEvents: archive.search.bind(archive),
    getRun: runs.get.bind(runs),
    listRuns: runs.list.bind(runs),
    unannouncedRuns: runs.unannounced.bind(runs),
    save: events.save.bind(events),
    forget(): void {
      commands.forget();
      events.forget();
      runs.forget();
    },
  };
}

export type StoreOperations = ReturnType<typeof storeOperations>;
export type StoreOperation = keyof StoreOperations;

/** Operations that change nothing: they need no transaction, and still work when the disk is full. */
export const readOperations: ReadonlySet<StoreOperation> = new Set<StoreOperation>([
  'get',
  'mailbox',
  'due',
  'list',
  'count',
  'lastFrom',
  'readEvents',
  'listLeases',
  'searchEvents',
  'getRun',
  'listRuns',
  'unannouncedRuns',
]);
