import { HubError, toHubError } from '../errors.ts';
import { type EngineWorker, pollingEngine, type Run, type TaskEngine } from '../tasks/index.ts';
import type { RedisConnection } from './connection.ts';

export interface BullMqEngineOptions {
  /** Name of the queue, as dashboards show it. Default: `runs`. */
  readonly queue?: string | undefined;
  /** The store is looked at at least this often, in ms, for what BullMQ did not bring. Default: 2000. */
  readonly pollMs?: number | undefined;
}

type Hint = Pick<Run, 'id' | 'task' | 'epoch' | 'dueAtMs' | 'priority'>;

/** A worker that says nothing for this long has lost its jobs, in ms: as long as a run stays with it. */
const lockMs = 8000;
/** How often lost jobs are looked for, in ms. */
const stalledMs = 1000;
/** What the look into the store leaves to BullMQ to bring before, in ms. */
const headStartMs = 500;
/** A job of a task that is not known here comes back for others after this, in ms. */
const foreignMs = 200;
/** Runs that may wait to be told to BullMQ; what is beyond is found in the store. */
const maxUntold = 10_000;
/** How long a close waits for BullMQ, in ms. */
const closeMs = 2000;
/** Of connections that read: BullMQ blocks for up to ten seconds, and repeats what fails by itself. */
const patient = {
  connectionName: 'signalbox-bullmq-worker',
  maxRetriesPerRequest: null,
  enableOfflineQueue: true,
  autoResendUnfulfilledCommands: true,
  commandTimeout: 12_000,
  socketTimeout: 12_500,
} as const;

/**
 * Brings runs to workers by a queue of BullMQ, for those who run it already. It is used for dispatch alone: runs, claims
 * and ends stay in the run store. A job is a hint that names a run, is forgotten once it was brought, and nothing is
 * lost with it: the store is looked at besides, with a little delay, so that BullMQ comes first.
 *
 * Throws `unavailable`, saying how to install it, when the package `bullmq` is not there.
 */
export async function openBullMqEngine(
  connection: RedisConnection,
  { queue: name = 'runs', pollMs = 2000 }: BullMqEngineOptions = {},
  // Its types are not named here: who does not use it has not installed it.
  load: () => Promise<object> = () => import('bullmq'),
): Promise<TaskEngine> {
  const { Queue, Worker, DelayedError, WaitingError } = (await loaded(load)) as typeof import('bullmq');
  const { clock, observe } = connection.settings;
  // One slot, so that its scripts work on a Redis Cluster.
  const prefix = `${connection.prefix}:{bullmq}`;
  const trouble = (cause: unknown): void => observe({ kind: 'redis-trouble', error: toHubError(cause) });

  // A hint that cannot be told at once is not worth waiting for.
  const writing = connection.another({ connectionName: 'signalbox-bullmq' });
  const queue = new Queue<null, void, string>(name, {
    connection: writing,
    prefix,
    streams: { events: { maxLen: 1000 } },
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true },
  });
  queue.on('error', trouble);

  const untold: Hint[] = [];
  let telling: Promise<void> | undefined;
  const tell = async (): Promise<void> => {
    while (untold.length > 0)
      try {
        await queue.addBulk(untold.splice(0, 500).map((hint) => jobOf(hint, clock.now())));
      } catch (error) {
        trouble(error);
      }
    telling = undefined;
  };

  const fallback = pollingEngine({ pollMs, clock });
  let bringing: ReturnType<typeof bring> | undefined;
  let stopping: Promise<void> | undefined;
  let isDrained = true;

  const bring = (to: EngineWorker) => {
    const clients = [connection.another(patient), connection.another(patient)] as const;
    const [reading, blocking] = clients;
    // BullMQ wants the one that blocks as a copy of the other; so both are ours to end, whatever becomes of Redis.
    reading.duplicate = () => blocking as never;
    const worker = new Worker<null, void, string>(
      name,
      async (job, token) => {
        if (stopping) {
          await job.moveToWait(token);
          throw new WaitingError();
        }
        if (!to.knows(job.name)) {
          await job.moveToDelayed(clock.now() + foreignMs, token);
          throw new DelayedError();
        }
        await to.run(job.id!.slice(0, job.id!.lastIndexOf('-')));
      },
      {
        connection: reading,
        prefix,
        concurrency: to.concurrency,
        lockDuration: lockMs,
        stalledInterval: stalledMs,
        // How often the workers of a run may be lost is for the run store to say.
        maxStalledCount: Number.MAX_SAFE_INTEGER,
        runRetryDelay: 1000,
        removeOnComplete: { count: 0 },
        removeOnFail: { count: 0 },
      },
    );
    worker.on('error', trouble);
    worker.on('drained', () => {
      isDrained = true;
    });
    worker.on('active', () => {
      isDrained = false;
    });
    return {
      worker,
      close: async () => {
        await within(closeMs, stopping);
        await within(closeMs, worker.close(true));
        for (const client of clients) client.disconnect();
      },
    };
  };
  const within = async (ms: number, work: Promise<unknown> | undefined): Promise<void> => {
    let letGo = (): void => undefined;
    const over = new Promise<void>((resolve) => {
      letGo = clock.after(ms, resolve);
    });
    await Promise.race([Promise.resolve(work).catch(trouble), over]);
    letGo();
  };

  const stop = async (): Promise<void> => {
    // Takes no more, and goes on to keep the jobs of runs that are under way.
    stopping ??= bringing?.worker.close();
    stopping?.catch(trouble);
    await fallback.stop();
  };

  return {
    hint(run) {
      if (run) {
        if (untold.length >= maxUntold) return;
        untold.push(run);
        telling ??= new Promise<void>((resolve) => setImmediate(resolve)).then(tell);
      } else if (isDrained) {
        // There is room, and BullMQ has nothing for it: perhaps it was not told.
        fallback.hint();
      }
    },
    start(worker) {
      bringing = bring(worker);
      fallback.start({
        concurrency: worker.concurrency,
        knows: (task) => worker.knows(task),
        run: (runId) => worker.run(runId),
        poll: async () => {
          const nextMs = await worker.poll();
          return nextMs === undefined ? undefined : nextMs + headStartMs;
        },
      });
    },
    stop,
    async close() {
      await stop();
      await fallback.close();
      await bringing?.close();
      await within(closeMs, telling);
      await within(closeMs, queue.close());
      writing.disconnect();
    },
  };
}

/** The id has the number of the attempt before, so that each attempt is asked for once, however often it is hinted. */
function jobOf({ id, task, epoch, dueAtMs, priority }: Hint, nowMs: number) {
  const delay = Math.max(0, dueAtMs - nowMs);
  // Ours go from -100 to 100, higher first; theirs from 1, lower first.
  return { name: task, data: null, opts: { jobId: `${id}-${epoch}`, delay, priority: 101 - priority } };
}

async function loaded(load: () => Promise<object>): Promise<object> {
  try {
    return await load();
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND') throw cause;
    const message = 'runs are to be brought by BullMQ, whose package is not installed: npm install bullmq@6';
    throw new HubError('unavailable', message, { cause });
  }
}
