// The thread that owns the database, so that no fsync ever holds up the streams.
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { openDatabase } from './database.ts';
import { storeOperations } from './store-operations.ts';
import type { Call, FromThread, ThreadOptions, ToThread } from './thread-messages.ts';
import { Transactions, thrownError } from './transactions.ts';

/** Most calls of one transaction; keeps the first ones from waiting for ever more. */
const maxGroup = 2000;

const port = parentPort;
if (port) serve(port, workerData as ThreadOptions);

function serve(port: NonNullable<typeof parentPort>, options: ThreadOptions): void {
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

  port.on('message', (first: ToThread) => {
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
      if (calls.length >= maxGroup) flush();
      next = receiveMessageOnPort(port);
    }
    flush();
  });
  tell({ kind: 'opened' });
}
