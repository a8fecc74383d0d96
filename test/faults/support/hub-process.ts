// A hub in a process of its own, to be killed: options as JSON in the first argument (or "waits" there, and the options in
// the first line that it is told), its addresses as JSON on standard output.
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { runUntilSignal, type ServeOptions, serve } from '../../../src/server/index.ts';
import { StoreThread } from '../../../src/sqlite/store-thread.ts';

export interface HubProcessOptions {
  readonly serve: ServeOptions;
  /**
   * Dies by its own hand, as if by kill -9, right when this fact is told for the nth time; `asked <operation>` is when the
   * store is asked for that, `stored <operation>` when it has done it and nobody has been told yet.
   */
  readonly dieAt?: { readonly kind: string; readonly nth: number } | undefined;
}

const told = createInterface({ input: process.stdin });
process.stdin.once('end', () => process.exit(2)); // ends with the test, if that should die
const given = JSON.parse(process.argv[2] ?? '{}') as HubProcessOptions | 'waits';
const options = given === 'waits' ? (JSON.parse((await once(told, 'line'))[0]) as HubProcessOptions) : given;
let left = options.dieAt?.nth ?? 0;
/** How many facts of each kind were told; of those that have a reason, also as `<kind>: <reason>`. */
const facts: Record<string, number> = {};
/** One more of what may be the last. */
const met = (kind: string): void => {
  if (kind === options.dieAt?.kind && --left === 0) process.kill(process.pid, 'SIGKILL');
};
const { call } = StoreThread.prototype;
if (options.dieAt)
  StoreThread.prototype.call = function withPoints(this: StoreThread, operation, args, bytes) {
    met(`asked ${operation}`);
    const answer = call.call(this, operation, args, bytes) as ReturnType<typeof this.call<typeof operation>>;
    return answer.then((value) => {
      met(`stored ${operation}`);
      return value;
    });
  };
const delay = monitorEventLoopDelay({ resolution: 5 });
const server = await serve(
  { logLevel: 'silent', ...options.serve },
  {
    sources: { env: {}, cwd: import.meta.dirname },
    observe: (fact) => {
      for (const name of 'reason' in fact ? [fact.kind, `${fact.kind}: ${fact.reason}`] : [fact.kind])
        facts[name] = (facts[name] ?? 0) + 1;
      met(fact.kind);
      if (fact.kind === 'store-failed' && 'operation' in fact)
        process.stderr.write(`${fact.operation}: ${fact.message}\n`);
    },
  },
);
// Listens for signals before anybody can know that it is there.
const ended = runUntilSignal(server);
const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
say({ ready: { grpc: server.grpc, http: server.http } });

// Questions about the process itself; never about commands.
told.on('line', (question) => {
  if (question === 'usage') {
    // The second one waits for buffers that the first has found free.
    for (let i = 0; i < 2; i++) globalThis.gc?.();
    const resources: Record<string, number> = {};
    for (const kind of process.getActiveResourcesInfo()) resources[kind] = (resources[kind] ?? 0) + 1;
    const { rss, heapUsed, external } = process.memoryUsage();
    const descriptors = existsSync('/proc/self/fd') ? readdirSync('/proc/self/fd').length : 0;
    const { sessions, outboxBytes } = server.hub.load;
    say({
      usage: {
        rss,
        heapUsed,
        external,
        resources,
        descriptors,
        sessions,
        outboxBytes,
        facts,
        p99Ms: delay.percentile(99) / 1e6,
      },
    });
  }
  if (question === 'watch loop') {
    delay.reset();
    delay.enable();
    say({ watching: true });
  }
});
const outcome = await ended;
process.exit(outcome === 'drained' ? 0 : 1);
