// The thread that owns the database, so that no fsync ever holds up the streams.
import { getPriority, setPriority } from 'node:os';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { openDatabase } from './database.ts';
import { storeOperations } from './store-operations.ts';
import type { Call, FromThread, ThreadOptions, ToThread } from './thread-messages.ts';
import { Transactions, thrownError } from './transactions.ts';

/** Most calls of one transaction; keeps the first ones from waiting for ever more. */
const maxGroup = 2000;
/** A group of so many calls says that there is much to write: the next one begins this many ms after it, at the soonest.
 *  What comes meanwhile shares the pages, the commit and the message with the answers. */
const busyGroup = 16;
const busyEveryMs = 6;
/** Below the streams: on a busy machine those are served first. */
const niceness = 5;

const port = parentPort;
if (port) serve(port, workerData as ThreadOptions);

function serve(port: NonNullable<typeof parentPort>, options: ThreadOptions): void {
  yieldToStreams();
  const tell = (message: FromThread) => port.postMessage(message);
  let transactions: Transactions;
  let close: () => void;
  try {
    const opened = openDatabase(options);
    transactions = new Transactions(opened, storeOperations(opened.db, options.retention), `in ${options.directory}`);
    close = opened.close;
  } catch (error) {
    tell({ kind: 'not-opened', error: thrownError(error) });
    port.close();
    return;
  }

  let begunAt = 0;
  let written = 0;
  port.on('message', (first: ToThread) => {
    const early = begunAt + busyEveryMs - performance.now();
    if (written >= busyGroup && early > 0) Atomics.wait(never, 0, 0, early);
    begunAt = performance.now();
    written = 0;
    let calls: Call[] = [];
    let known = 0;
    const flush = () => {
      if (calls.length > 0) {
        const answers = transactions.run(calls, known < transactions.failures);
        tell({ kind: 'answers', answers, health: transactions.health, failures: transactions.failures });
      }
      calls = [];
    };
    // Everything that came in while the last group was written goes into the next one.
    let next: { message: ToThread } | undefined = { message: first };
    while (next) {
      if (next.message === 'close') {
        flush();
        close();
        port.close();
        return;
      }
      if (next.message.failures !== known) flush();
      known = next.message.failures;
      calls.push(...next.message.calls);
      written += next.message.calls.length;
      if (calls.length >= maxGroup) flush();
      next = receiveMessageOnPort(port);
    }
    flush();
  });
  tell({ kind: 'opened' });
}

/** Nothing ever wakes who waits here. */
const never = new Int32Array(new SharedArrayBuffer(4));

/** Linux knows a priority for each thread; elsewhere this would be the whole process's. */
function yieldToStreams(): void {
  if (process.platform !== 'linux') return;
  try {
    setPriority(0, Math.max(getPriority(0), niceness));
  } catch {
    // It works as well, only not as politely: where nothing may be lowered, it stays as it is.
  }
}
