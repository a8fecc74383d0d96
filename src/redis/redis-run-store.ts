import { uniqueId } from '../flow/unique-id.ts';
import {
  conflictMessage,
  isSameRun,
  keyFullMessage,
  limitKey,
  newestReason,
  queueFullMessage,
  type Run,
  type RunFilter,
  type RunState,
  type RunStore,
  supersededReason,
} from '../tasks/index.ts';
import type { Argument, RedisConnection } from './connection.ts';
import { runScript } from './run-script.ts';

export interface RedisRunStoreOptions {
  /** Whether claims go by the time of the Redis server, so that the clocks of the nodes do not matter. Default: true. */
  readonly usesServerTime?: boolean | undefined;
  /** A call resolves only once this many replicas have it, too. Default: 0. */
  readonly replicas?: number | undefined;
}

/** Runs looked at in one go for a list. */
const pageSize = 200;
/** Most runs that are looked at for one list, however few of them are asked for. */
const maxLookedAt = 20_000;

/**
 * Keeps runs of tasks in Redis, for workers on many nodes. All of them live in one slot, as limits go over all of them.
 * Each call is one script, known by its token when it is repeated after a lost answer. The connection stays its owner's.
 */
export function redisRunStore(
  connection: RedisConnection,
  { usesServerTime = true, replicas = 0 }: RedisRunStoreOptions = {},
): RunStore {
  const root = `${connection.prefix}:{runs}`;
  const ask = (verb: string, nowMs: number, ...args: readonly Argument[]): Promise<unknown> =>
    connection.run(runScript, [root], [verb, nowMs, usesServerTime ? 1 : 0, ...args], { replicas });
  const none = 0;
  return {
    async add(run, { nowMs, maxQueued }) {
      const { idempotencyKey, concurrency, dueAtMs, deadlineMs, ...fixed } = run;
      const reply = (await ask(
        'add',
        nowMs,
        run.id,
        JSON.stringify({ ...fixed, idempotencyKey, concurrency }),
        run.tenant,
        run.task,
        idempotencyKey === undefined ? '' : JSON.stringify([run.tenant, run.task, idempotencyKey]),
        run.priority,
        limitKey(run) ?? '',
        concurrency?.limit ?? 0,
        concurrency?.onFull ?? 'queue',
        dueAtMs,
        deadlineMs ?? '',
        maxQueued,
        supersededReason(run),
        newestReason(run),
      )) as [Buffer, Fields, Fields[]];
      switch (String(reply[0])) {
        case 'stored':
          return { kind: 'stored', run: runOf(reply[1]), cancelled: reply[2].map(runOf) };
        case 'known': {
          const known = runOf(reply[1]);
          return isSameRun(known, run)
            ? { kind: 'existing', run: known }
            : { kind: 'conflict', message: conflictMessage(known, run) };
        }
        default:
          return {
            kind: 'full',
            message: String(reply[1]) === 'key' ? keyFullMessage(run) : queueFullMessage(run, maxQueued),
          };
      }
    },
    async claim({ tasks, id = '', limit, nowMs, untilMs, maxCrashes }) {
      const args = [uniqueId(), limit, untilMs, maxCrashes, id, ...tasks];
      const [runs, ended, due] = (await ask('claim', nowMs, ...args)) as [Fields[], Fields[], Buffer];
      const next = String(due);
      return { runs: runs.map(runOf), ended: ended.map(runOf), nextDueMs: next === '' ? undefined : Number(next) };
    },
    async renew(claims, { nowMs, untilMs }) {
      if (claims.length === 0) return [];
      const args = claims.flatMap(({ id, epoch }) => [id, epoch]);
      const outcomes = (await ask('renew', nowMs, untilMs, ...args)) as [Buffer, Buffer][];
      return outcomes.map(([word, reason]) => {
        if (String(word) === 'lost') return 'lost';
        return reason.length === 0 ? 'kept' : { cancelReason: String(reason) };
      });
    },
    checkpoint: async ({ id, epoch }, data, nowMs) => (await ask('checkpoint', nowMs, id, epoch, data)) === 1,
    async settle({ id, epoch }, end, nowMs) {
      const error = 'error' in end ? end.error : { code: '', message: '' };
      const last = end.kind === 'succeeded' ? end.result : 'dueAtMs' in end ? (end.dueAtMs ?? '') : '';
      const args = [id, epoch, uniqueId(), end.kind, error.code, error.message, last];
      return someRun((await ask('settle', nowMs, ...args)) as Fields);
    },
    cancel: async (tenant, id, reason, nowMs) => someRun((await ask('cancel', nowMs, tenant, id, reason)) as Fields),
    unannounced: async (limit) => ((await ask('unannounced', none, limit)) as Fields[]).map(runOf),
    async announced(ids) {
      if (ids.length > 0) await ask('announced', none, ...ids);
    },
    get: async (tenant, id) => someRun((await ask('get', none, tenant, id)) as Fields),
    async list(filter) {
      const found: Run[] = [];
      let before = '+inf';
      for (let seen = 0; seen < maxLookedAt; seen += pageSize) {
        const page = (await ask('page', none, filter.tenant, before, pageSize)) as Fields[];
        for (const fields of page) {
          const run = runOf(fields);
          if (matches(run, filter)) found.push(run);
          if (found.length >= filter.limit) return found;
        }
        if (page.length < pageSize) break;
        before = String(pairs(page.at(-1)!).get('n'));
      }
      return found;
    },
    async prune({ endedBeforeMs, maxEnded }) {
      let forgotten = 0;
      for (;;) {
        const most = Number.isFinite(maxEnded) ? maxEnded : Number.MAX_SAFE_INTEGER;
        const count = Number(await ask('prune', none, endedBeforeMs, most));
        forgotten += count;
        if (count === 0) return forgotten;
      }
    },
    async close() {
      // The connection is its owner's.
    },
  };
}

type Fields = readonly Buffer[];

function pairs(fields: Fields): Map<string, string> {
  const found = new Map<string, string>();
  for (let i = 0; i < fields.length; i += 2) found.set(String(fields[i]), String(fields[i + 1]));
  return found;
}

const someRun = (fields: Fields): Run | undefined => (fields.length === 0 ? undefined : runOf(fields));

function runOf(fields: Fields): Run {
  const found = pairs(fields);
  const text = (name: string): string | undefined => found.get(name) || undefined;
  const number = (name: string): number | undefined => (found.get(name) ? Number(found.get(name)) : undefined);
  const fixed = JSON.parse(found.get('j')!) as Pick<
    Run,
    'id' | 'tenant' | 'task' | 'input' | 'owner' | 'tags' | 'priority' | 'idempotencyKey' | 'concurrency'
  >;
  const code = text('ecode');
  return {
    id: fixed.id,
    tenant: fixed.tenant,
    task: fixed.task,
    input: fixed.input,
    owner: fixed.owner,
    tags: fixed.tags,
    priority: fixed.priority,
    idempotencyKey: fixed.idempotencyKey,
    concurrency: fixed.concurrency,
    state: found.get('state') as RunState,
    epoch: number('epoch') ?? 0,
    failures: number('failures') ?? 0,
    crashes: number('crashes') ?? 0,
    dueAtMs: number('due') ?? 0,
    deadlineMs: number('deadline'),
    createdAtMs: number('created') ?? 0,
    startedAtMs: number('started'),
    updatedAtMs: number('updated') ?? 0,
    endedAtMs: number('ended'),
    cancelReason: found.get('cancel'),
    checkpoint: text('checkpoint'),
    result: text('result'),
    error: code === undefined ? undefined : { code, message: found.get('emessage') ?? '' },
  };
}

function matches(run: Run, { task, owner, state, tag }: RunFilter): boolean {
  return (
    (task === undefined || run.task === task) &&
    (owner === undefined || run.owner === owner) &&
    (state === undefined || run.state === state) &&
    (tag === undefined || run.tags.includes(tag))
  );
}
