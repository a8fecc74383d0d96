import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import type { StandardVerbs, Usage, Verbs } from './actor.ts';
import type { Load } from './load.ts';

/** One number of a bench; `ratio` is `value / yardstickValue`, null where that is 0. Without a yardstick the last three are null. */
export interface Figure {
  bench: string;
  metric: string;
  value: number;
  unit: string;
  yardstick: string | null;
  yardstickValue: number | null;
  ratio: number | null;
}

/** What a bench is given. */
export interface Bench {
  /** True: short rounds and few devices, to end within 40 s. */
  readonly isQuick: boolean;
  /** Whether the peers of `bench/package.json` are there to compare with. */
  readonly hasPeers: boolean;
  /** Tells one figure, beside the same one of each yardstick. */
  report(metric: string, unit: string, value: number, yardsticks?: Readonly<Record<string, number>>): void;
  /** Says something about the run, to people. */
  say(text: string): void;
  /** Starts `actors/<name>.ts` in a process of its own; it ends with the bench. */
  start<V extends Verbs>(name: string): Promise<Actor<V>>;
  /** Ends the processes that were started, before others take their place. */
  stopAll(): Promise<void>;
}

/** A process that does what it is asked to. */
export interface Actor<V extends Verbs> {
  readonly name: string;
  call<K extends keyof V & string>(
    verb: K,
    ...value: Parameters<V[K]> extends [] ? [] : [Parameters<V[K]>[0]]
  ): Promise<Awaited<ReturnType<V[K]>>>;
  /** Verbs that every actor has. */
  own<K extends keyof StandardVerbs>(verb: K): Promise<Awaited<ReturnType<StandardVerbs[K]>>>;
  stop(): Promise<void>;
  /** Ends it at once, as if it had crashed. */
  kill(): Promise<void>;
}

// biome-ignore lint/suspicious/noExplicitAny: an actor of any kind
export type AnyActor = Actor<any>;

/** No verb takes longer, in ms. */
const verbTimeoutMs = 120_000;

/** Starts processes, and ends all of them when it is disposed. */
export class Stage implements AsyncDisposable {
  readonly #actors = new Set<AnyActor>();
  readonly #nodeArgs: readonly string[];
  #started = 0;

  /** Every process gets `nodeArgs`; `%` in them stands for its name and number. */
  constructor(nodeArgs: readonly string[]) {
    this.#nodeArgs = nodeArgs;
  }

  async start<V extends Verbs>(name: string): Promise<Actor<V>> {
    const label = `${name}-${++this.#started}`;
    const nodeArgs = this.#nodeArgs.map((arg) => arg.replace('%', label));
    const child = fork(path.join(import.meta.dirname, 'actors', `${name}.ts`), {
      execArgv: ['--expose-gc', '--disable-warning=ExperimentalWarning', ...nodeArgs],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const actor = actorOf<V>(name, child);
    this.#actors.add(actor);
    await actor.own('usage');
    return actor;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#actors].map((actor) => actor.stop()));
    this.#actors.clear();
  }
}

function actorOf<V extends Verbs>(name: string, child: ChildProcess): Actor<V> {
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  let calls = 0;
  child.on('message', ({ id, value, error }: { id: number; value: never; error?: string }) => {
    const call = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) call?.resolve(value);
    else call?.reject(new Error(`${name}: ${error}`));
  });
  child.once('exit', (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`${name} ended with ${signal ?? code}`));
  });
  const ask = (verb: string, value: unknown): Promise<never> =>
    new Promise((resolve, reject) => {
      const id = ++calls;
      const timer = setTimeout(() => {
        waiting.delete(id);
        reject(new Error(`${name}: "${verb}" has not ended after ${verbTimeoutMs / 1000} s`));
      }, verbTimeoutMs);
      const settle =
        <T>(end: (value: T) => void) =>
        (with_: T): void => {
          clearTimeout(timer);
          end(with_);
        };
      waiting.set(id, { resolve: settle(resolve), reject: settle(reject) });
      child.send({ id, verb, value }, (error) => error && waiting.get(id)?.reject(error));
    });
  return {
    name,
    call: (verb, ...[value]) => ask(verb, value),
    own: (verb) => ask(verb, undefined),
    async kill() {
      child.kill('SIGKILL');
      await ended;
    },
    async stop() {
      // An actor ends by itself when nobody asks any more: so it writes its profile and removes its files.
      if (child.connected) child.disconnect();
      const killer = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await ended;
      clearTimeout(killer);
    },
  };
}

/** What each of some processes used while `work` went on: CPU in us by name, and what `work` gave. */
export async function during<T>(
  actors: Readonly<Record<string, AnyActor>>,
  work: () => Promise<T>,
): Promise<{ result: T; cpuUs: Record<string, number> }> {
  const names = Object.keys(actors);
  const usages = (): Promise<Usage[]> => Promise.all(Object.values(actors).map((actor) => actor.own('usage')));
  const before = await usages();
  const result = await work();
  const after = await usages();
  return { result, cpuUs: Object.fromEntries(names.map((name, i) => [name, after[i]!.cpuUs - before[i]!.cpuUs])) };
}

/** A load with the CPU that each process spent on one operation, in us: `{perSecond, p50Ms, p99Ms, <name>: us}`. */
export async function perOperation(
  actors: Readonly<Record<string, AnyActor>>,
  work: () => Promise<Load>,
): Promise<Record<string, number>> {
  const { result: load, cpuUs } = await during(actors, work);
  return {
    perSecond: load.operations / load.seconds,
    p50Ms: load.p50Ms,
    p99Ms: load.p99Ms,
    ...Object.fromEntries(Object.entries(cpuUs).map(([name, us]) => [name, us / load.operations])),
  };
}

/** One contender: measures for about so many seconds. */
export type Contender = (seconds: number) => Promise<Record<string, number>>;

/**
 * Lets contenders take turns (A B C A B C ...), so that a noisy machine is noisy for all of them, and gives the
 * median of each of their numbers. The first turn of each warms it up (`warmUpSeconds`: default 6) and does not count.
 */
export async function takeTurns(
  contenders: Readonly<Record<string, Contender>>,
  { rounds, seconds, warmUpSeconds = 6 }: { rounds: number; seconds: number; warmUpSeconds?: number },
): Promise<Record<string, Record<string, number>>> {
  const turns: Record<string, Record<string, number>[]> = {};
  for (let round = 0; round <= rounds; round++)
    for (const [name, measure] of Object.entries(contenders)) {
      const numbers = await measure(round === 0 ? warmUpSeconds : seconds);
      if (round > 0) turns[name] = [...(turns[name] ?? []), numbers];
    }
  return Object.fromEntries(
    Object.entries(turns).map(([name, all]) => [
      name,
      Object.fromEntries(Object.keys(all[0]!).map((key) => [key, median(all.map((numbers) => numbers[key]!))])),
    ]),
  );
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** One number of several contenders, by their names; those that did not run are left out. */
export function beside(
  results: Readonly<Partial<Record<string, Record<string, number>>>>,
  number: string,
): Record<string, number> {
  return Object.fromEntries(
    Object.entries(results).flatMap(([name, numbers]) =>
      numbers?.[number] === undefined ? [] : [[name, numbers[number]]],
    ),
  );
}

/** Clients that share a connection would make every figure look better than it is. */
export function same(what: string, connections: number, expected: number): void {
  if (connections !== expected) throw new Error(`${expected} ${what} hold ${connections} connections`);
}
