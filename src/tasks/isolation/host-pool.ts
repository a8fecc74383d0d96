import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { loaderArgs } from './loader-args.ts';
import type { FromHost, ToHost } from './messages.ts';

/** A thread or process that does one job at a time. */
export interface Host {
  post(message: ToHost): void;
  onMessage: (message: FromHost) => void;
  /** Called once, however it ended. */
  onEnd: (why: string) => void;
  readonly hasEnded: boolean;
  /** Set by `kill`: it will not do another job, though it may not have ended yet. */
  readonly isKilled: boolean;
  /** Whether it keeps this process alive. */
  hold(isHeld: boolean): void;
  /** Ends it now, whatever it does. */
  kill(): void;
}

// From source the host is TypeScript too, and Node strips the types.
const hostFile = new URL(import.meta.url.endsWith('.ts') ? './host.ts' : './host.js', import.meta.url);

/**
 * V8 13.6 (Node 24) may crash the whole process when a thread ends while another one replaces its wrappers of calls from
 * WebAssembly into JavaScript by faster ones: in `WasmEngine::FreeDeadCode`, seen with the type stripping of Node itself,
 * which every thread that loads TypeScript uses, as `fetch` has its parser. This many calls no wrapper comes to.
 */
const noFasterWrappers = '--wasm-wrapper-tiering-budget=2000000000';

export function startThread(): Host {
  // Other versions may not know the flag, and would say so on stderr.
  if (process.versions.v8.startsWith('13.')) setFlagsFromString(noFasterWrappers);
  const worker = new Worker(hostFile, { execArgv: loaderArgs(process.execArgv), name: 'signalbox-task' });
  const host = newHost({
    post: (message) => worker.postMessage(message),
    hold: (isHeld) => (isHeld ? worker.ref() : worker.unref()),
    kill: () => void worker.terminate(),
  });
  worker.on('message', (message: FromHost) => host.onMessage(message));
  worker.on('error', (error) => host.end(`its thread fell: ${(error as Error).message}`));
  worker.on('exit', (code) => host.end(`its thread ended with code ${code}`));
  return host;
}

export function startProcess(): Host {
  const child = fork(fileURLToPath(hostFile), {
    execArgv: loaderArgs(process.execArgv),
    serialization: 'advanced',
    stdio: ['ignore', 2, 2, 'ipc'],
  });
  const host = newHost({
    post: (message) => {
      if (child.connected) child.send(message);
    },
    hold(isHeld) {
      if (isHeld) child.ref();
      else child.unref();
      if (isHeld) child.channel?.ref();
      else child.channel?.unref();
    },
    kill: () => void child.kill('SIGKILL'),
  });
  child.on('message', (message) => host.onMessage(message as FromHost));
  child.on('error', (error) => host.end(`its process cannot be started: ${error.message}`));
  child.on('exit', (code, signal) => host.end(`its process ended with ${signal ?? `code ${code}`}`));
  return host;
}

function newHost(verbs: Pick<Host, 'post' | 'hold' | 'kill'>) {
  const nobody = (): void => undefined;
  const host = {
    ...verbs,
    onMessage: nobody as (message: FromHost) => void,
    onEnd: nobody as (why: string) => void,
    hasEnded: false,
    isKilled: false,
    kill(): void {
      host.isKilled = true;
      verbs.kill();
    },
    end(why: string): void {
      if (host.hasEnded) return;
      host.hasEnded = true;
      host.onEnd(why);
    },
  };
  return host;
}

/** Hosts of one kind: at most `size` at once, each used again as long as it is well. */
export class HostPool {
  readonly #start: () => Host;
  readonly #size: number;
  readonly #all = new Set<Host>();
  readonly #idle: Host[] = [];
  readonly #waiting: ((host: Host) => void)[] = [];

  constructor(start: () => Host, size: number) {
    this.#start = start;
    this.#size = size;
  }

  /** A host of one's own until `give`. Rejects with the signal's reason when that is aborted before. */
  take(signal: AbortSignal): Promise<Host> {
    if (signal.aborted) return Promise.reject(signal.reason);
    const idle = this.#idle.pop();
    if (idle) return Promise.resolve(this.#held(idle));
    if (this.#all.size < this.#size) return Promise.resolve(this.#held(this.#open()));
    return new Promise((resolve, reject) => {
      const come = (host: Host): void => {
        signal.removeEventListener('abort', leave);
        resolve(this.#held(host));
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(come), 1);
        reject(signal.reason);
      };
      this.#waiting.push(come);
      signal.addEventListener('abort', leave, { once: true });
    });
  }

  give(host: Host): void {
    host.hold(false);
    host.onMessage = () => undefined;
    host.onEnd = () => this.#forget(host);
    if (host.hasEnded || host.isKilled) this.#forget(host);
    else this.#pass(host);
  }

  close(): void {
    for (const host of this.#all) host.kill();
    this.#idle.length = 0;
  }

  #open(): Host {
    const host = this.#start();
    host.onEnd = () => this.#forget(host);
    this.#all.add(host);
    return host;
  }

  #held(host: Host): Host {
    host.hold(true);
    return host;
  }

  #pass(host: Host): void {
    const next = this.#waiting.shift();
    if (next) next(host);
    else this.#idle.push(host);
  }

  #forget(host: Host): void {
    if (!this.#all.delete(host)) return;
    const place = this.#idle.indexOf(host);
    if (place >= 0) this.#idle.splice(place, 1);
    if (this.#waiting.length > 0) this.#pass(this.#open());
  }
}
