import { availableParallelism, cpus } from 'node:os';
import { Command } from 'commander';
import { PayloadCaller } from '../../commands/payload-caller.ts';
import { PumpServiceDefinition, simulatedPump } from '../../example/index.ts';
import { parseCount } from '../arguments.ts';
import { exitCodes } from '../exit-codes.ts';
import { loadSchemas } from '../payload-options.ts';
import type { Verb } from '../run.ts';

interface Options {
  count: number;
  concurrency: number;
}

const method =
  'hub, caller and one device in this process; commands go in process to the hub, from there over gRPC on loopback to the ' +
  'device, and its result comes back the same way; store in memory; times are of the caller, after a warm-up';

/** `signalbox bench`: round trips on this machine, to see that all is well. Not the project's benchmark. */
export const bench: Verb = {
  declare: () =>
    new Command('bench')
      .description('Measure round trips of live commands on this machine, all in one process. For trying out.')
      .option('--count <n>', 'commands to measure', parseCount, 5000)
      .option('--concurrency <n>', 'commands on their way at once', parseCount, 16)
      .addHelpText('after', `\nMethod: ${method}.`),

  examples: ['bench', 'bench --count 20000 --concurrency 1 --json'],

  async run(_args, { count, concurrency }: Options, { terminal, outside, signal }) {
    const [{ serve }, { connectDevice }] = await Promise.all([
      import('../../server/index.ts'),
      import('../../device/index.ts'),
    ]);
    await using server = await serve(
      { grpc: '127.0.0.1:0', http: false, data: ':memory:', auth: 'none', logLevel: 'silent', drainTimeoutMs: 1000 },
      { sources: { env: {}, cwd: import.meta.dirname }, logTo: outside.stderr },
    );
    await using device = await connectDevice({ address: server.grpc[0]!, clientId: 'bench', signal });
    const pump = simulatedPump({ temperatureEveryMs: 0 });
    device.implement(PumpServiceDefinition, pump.service);
    const payload = (await loadSchemas({})).encode({ method: 'PumpService/Stop' });
    const caller = new PayloadCaller({ clientId: 'bench', transport: server.hub });

    const timesMs: number[] = [];
    const run = async (total: number, onDone: (ms: number) => void): Promise<void> => {
      let begun = 0;
      const lane = async (): Promise<void> => {
        while (begun < total) {
          signal.throwIfAborted();
          begun++;
          const at = performance.now();
          await caller.settle(payload);
          onDone(performance.now() - at);
        }
      };
      await Promise.all(Array.from({ length: Math.min(concurrency, total) }, lane));
    };
    await run(Math.min(1000, count), () => undefined);
    const cpuBefore = process.cpuUsage();
    const startedAt = performance.now();
    await run(count, (ms) => {
      timesMs.push(ms);
      if (timesMs.length % 500 === 0) terminal.progress(`${timesMs.length} of ${count}`);
    });
    const seconds = (performance.now() - startedAt) / 1000;
    const cpu = process.cpuUsage(cpuBefore);

    timesMs.sort((a, b) => a - b);
    const at = (share: number): number => timesMs[Math.min(timesMs.length - 1, Math.floor(share * timesMs.length))]!;
    const machine = `${cpus()[0]?.model ?? process.arch}, ${availableParallelism()} cores, Node ${process.versions.node}`;
    const figures = {
      perSecond: Math.round(count / seconds),
      p50Ms: rounded(at(0.5)),
      p99Ms: rounded(at(0.99)),
      maxMs: rounded(timesMs.at(-1)!),
      // Of hub, caller and device together.
      cpuMicrosPerCommand: rounded((cpu.user + cpu.system) / count),
    };
    terminal.tell(
      { bench: 'round-trip', count, concurrency, ...figures, machine, method },
      [
        `${count} commands, ${concurrency} at once: ${figures.perSecond} a second`,
        `p50 ${figures.p50Ms} ms   p99 ${figures.p99Ms} ms   max ${figures.maxMs} ms`,
        `${figures.cpuMicrosPerCommand} us CPU for each command, of hub, caller and device together`,
        `on ${machine}`,
        terminal.paint('grey', method),
      ].join('\n'),
    );
    return exitCodes.ok;
  },
};

const rounded = (value: number): number => Math.round(value * 100) / 100;
