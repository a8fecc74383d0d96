import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { HubError, type HubErrorCode } from '../errors.ts';
import { logLines } from '../server/logs.ts';
import { exitCodes } from './exit-codes.ts';
import type { VerbContext } from './run.ts';

/** Where a node of several listens: the ports of the first, and the next ones for the others; port 0 stays 0. */
export function shifted(address: string, by: number): string {
  const [, host, port] = /^(.*):(\d+)$/.exec(address) ?? [];
  if (host === undefined || address.startsWith('unix:'))
    throw new HubError('invalid-argument', `--nodes needs addresses with ports, and ${address} has none`);
  return `${host}:${Number(port) === 0 ? 0 : Number(port) + by}`;
}

/** A line that a node says on its standard output. */
interface Told {
  readonly event?: string;
  readonly grpc: string;
  readonly http?: string;
  readonly error?: { readonly code: HubErrorCode; readonly message: string };
}

const hasEnded = ({ exitCode, signalCode }: ChildProcess): boolean => exitCode !== null || signalCode !== null;

/**
 * Runs several nodes on this machine, each a process of its own, for trying out what happens when one goes. Ends with
 * the signal, or once all of them have ended.
 */
export async function serveSeveral(
  count: number,
  given: { readonly grpc: readonly string[]; readonly http: readonly string[]; readonly node: string },
  argv: readonly string[],
  { terminal, outside, signal }: VerbContext,
): Promise<0 | 1> {
  const main = process.argv[1]!;
  const children: ChildProcess[] = [];
  const ready: { node: string; pid: number; grpc: string; http: string | undefined }[] = [];
  const start = async (index: number): Promise<void> => {
    const node = `${given.node}-${index + 1}`;
    const listen = [
      ...given.grpc.flatMap((address) => ['--grpc', shifted(address, index)]),
      ...(given.http.length > 0 ? given.http.flatMap((address) => ['--http', shifted(address, index)]) : ['--no-http']),
    ];
    const args = [...process.execArgv, main, 'serve', ...argv, ...listen, '--node', node, '--json'];
    // In a group of its own: Ctrl-C comes to this process, which tells them.
    const child = spawn(process.execPath, args, {
      env: outside.env,
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    children.push(child);
    const log = logLines({ destination: outside.stderr, node });
    createInterface({ input: child.stderr! }).on('line', log);
    for await (const line of createInterface({ input: child.stdout! })) {
      const told = JSON.parse(line) as Told;
      if (told.error) throw new HubError(told.error.code, `node ${node} did not start: ${told.error.message}`);
      if (told.event !== 'ready') continue;
      ready.push({ node, pid: child.pid!, grpc: told.grpc, http: told.http });
      return;
    }
    throw new HubError('unavailable', `node ${node} did not start; what it said is above`);
  };
  const stop = (): void => {
    for (const child of children) if (!hasEnded(child)) child.kill('SIGTERM');
  };
  const allEnded = () => Promise.all(children.map((child) => hasEnded(child) || once(child, 'exit')));
  try {
    // One after the other, so that each finds what the first has made.
    for (let index = 0; index < count && !signal.aborted; index++) await start(index);
    const addresses = ready.map(({ grpc }) => grpc).join(',');
    terminal.tell(
      { event: 'ready', nodes: ready },
      [
        terminal.paint('bold', `${count} nodes are ready. Ctrl-C ends them.`),
        ...ready.map(({ node, pid, grpc, http }) => `  ${node}  gRPC ${grpc}  ${http ?? ''}  (process ${pid})`),
        `  devices and callers: --grpc ${addresses}`,
      ].join('\n'),
    );
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    await Promise.race([stopped, allEnded()]);
    terminal.tell({ event: 'draining' });
    return signal.aborted ? exitCodes.ok : exitCodes.failed;
  } finally {
    stop();
    await allEnded();
  }
}
