import { Worker } from 'node:worker_threads';
import { HubError } from '../errors.ts';
import { Deque } from '../flow/deque.ts';
import type { StoreOperation, StoreOperations } from './store-operations.ts';
import type { Answer, Call, FromThread, Health, ThreadOptions, ThrownError, ToThread } from './thread-messages.ts';

/** What the store tells about itself. */
export type StoreFact =
  /** Writes are refused: until there is space again (`full`), or until a restart (`broken`). */
  | { readonly kind: 'disk-failed'; readonly state: 'full' | 'broken'; readonly reason: string }
  | { readonly kind: 'disk-recovered' }
  /** Something in the background went wrong; it is tried again. */
  | { readonly kind: 'disk-trouble'; readonly error: HubError };

export interface StoreThreadOptions extends ThreadOptions {
  readonly maxWaitingCalls: number;
  readonly maxWaitingBytes: number;
  readonly observe: (fact: StoreFact) => void;
}

interface Waiting {
  readonly id: number;
  readonly resolve: (value: never) => void;
  readonly reject: (error: HubError) => void;
  readonly bytes: number;
}

/** Answers that are told in one turn of the event loop. */
const answersPerTurn = 8;

/** The main thread's end of the thread that owns the database. Calls of one turn of the event loop go as one message. */
export class StoreThread {
  readonly #worker: Worker;
  readonly #options: StoreThreadOptions;
  /** In the order of the calls, which is that of the answers. */
  readonly #waiting = new Deque<Waiting>();
  readonly #answers = new Deque<Answer>();
  #batch: Call[] = [];
  #nextId = 1;
  #waitingBytes = 0;
  #failures = 0;
  #health: Health = { state: 'well' };
  #closing: Promise<void> | undefined;
  #ended: HubError | undefined;

  /** Resolves once the database is open; rejects with the reason why it cannot be. */
  static async open(options: StoreThreadOptions): Promise<StoreThread> {
    const { observe: _, ...workerData } = options;
    // From source the thread is TypeScript too, and Node strips the types.
    const file = import.meta.url.endsWith('.ts') ? './thread.ts' : './thread.js';
    const worker = new Worker(new URL(file, import.meta.url), { workerData, execArgv: [], name: 'signalbox-store' });
    const thread = new StoreThread(worker, options);
    const opened = new Promise<void>((resolve, reject) => {
      worker.once('error', reject);
      worker.once('exit', () => reject(new HubError('unavailable', 'the thread of the store ended')));
      worker.once('message', (message: FromThread) => {
        if (message.kind === 'not-opened') reject(errorOf(message.error));
        else resolve();
      });
    });
    try {
      await opened;
    } catch (error) {
      // Its end is no news: whoever opens hears of it here.
      thread.#closing = Promise.resolve();
      throw error;
    }
    return thread;
  }

  private constructor(worker: Worker, options: StoreThreadOptions) {
    this.#worker = worker;
    this.#options = options;
    worker.on('message', (message: FromThread) => this.#onMessage(message));
    worker.on('error', (error) => this.#onEnd(`the thread of the store fell: ${error.message}`));
    worker.on('exit', () => this.#onEnd('the store is closed'));
  }

  /** Why a write would be refused now; undefined when it would be tried. */
  get refusal(): HubError | undefined {
    return this.#health.state === 'broken' ? new HubError('unavailable', this.#health.reason) : this.#overload;
  }

  get #overload(): HubError | undefined {
    if (this.#ended) return this.#ended;
    if (this.#closing) return new HubError('unavailable', 'the store is closed');
    const { maxWaitingCalls, maxWaitingBytes, directory } = this.#options;
    if (this.#waiting.size < maxWaitingCalls && this.#waitingBytes < maxWaitingBytes) return undefined;
    return new HubError(
      'unavailable',
      `the store in ${directory} is too slow: ${this.#waiting.size} calls with ${this.#waitingBytes} bytes wait for the disk`,
      { retryAfterMs: 1000 },
    );
  }

  /** `bytes`: about what the call holds on to while it waits. */
  call<K extends StoreOperation>(
    operation: K,
    args: Parameters<StoreOperations[K]>,
    bytes = 0,
  ): Promise<ReturnType<StoreOperations[K]>> {
    const overload = this.#overload;
    if (overload) return Promise.reject(overload);
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#waiting.push({ id, resolve, reject, bytes });
      this.#waitingBytes += bytes;
      this.#batch.push([id, operation, args]);
      if (this.#batch.length === 1) setImmediate(() => this.#flush());
    });
  }

  /** Lets the calls that wait end, then closes the database. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#ended) return;
    const exit = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.#flush();
    this.#worker.postMessage('close' satisfies ToThread);
    await exit;
  }

  #flush(): void {
    if (this.#batch.length === 0 || this.#ended) return;
    const batch = this.#batch;
    this.#batch = [];
    this.#worker.postMessage({ calls: batch, failures: this.#failures } satisfies ToThread);
  }

  #onMessage(message: FromThread): void {
    if (message.kind !== 'answers') return;
    this.#failures = message.failures;
    this.#note(message.health);
    for (const answer of message.answers) this.#answers.push(answer);
    // Those of an earlier message come first, and bring these along.
    if (this.#answers.size === message.answers.length) this.#tell();
  }

  /** A few answers in one turn of the event loop: what comes of a hundred would keep live streams waiting. */
  readonly #tell = (most = answersPerTurn): void => {
    for (let count = most; count > 0; count--) {
      const answer = this.#answers.shift();
      if (!answer) return;
      const [id, value, error] = answer;
      if (this.#waiting.first?.id !== id) {
        this.#onEnd(`the thread of the store has answered call ${id} out of its turn`);
        return;
      }
      const waiting = this.#waiting.shift()!;
      this.#waitingBytes -= waiting.bytes;
      if (error) waiting.reject(errorOf(error));
      else waiting.resolve(value as never);
    }
    if (this.#answers.size > 0) setImmediate(this.#tell);
  };

  #note(health: Health): void {
    const before = this.#health;
    this.#health = health;
    if (health.state === before.state) return;
    if (health.state === 'well') this.#options.observe({ kind: 'disk-recovered' });
    else this.#options.observe({ kind: 'disk-failed', state: health.state, reason: health.reason });
  }

  #onEnd(reason: string): void {
    if (this.#ended) return;
    this.#ended = new HubError('unavailable', reason);
    // What the thread has answered is done.
    this.#tell(this.#answers.size);
    if (!this.#closing) this.#options.observe({ kind: 'disk-failed', state: 'broken', reason });
    for (const waiting of this.#waiting) waiting.reject(this.#ended);
    this.#waiting.clear();
    this.#batch = [];
    this.#waitingBytes = 0;
  }
}

function errorOf({ code, message }: ThrownError): HubError {
  return new HubError(code, message, code === 'unavailable' ? { retryAfterMs: 1000 } : {});
}
