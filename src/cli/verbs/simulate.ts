import { Command } from 'commander';
import { PayloadCaller } from '../../commands/payload-caller.ts';
import type { Device } from '../../device/device.ts';
import { type HubError, toHubError } from '../../errors.ts';
import { PumpServiceDefinition, type PumpSimulation, simulatedPump } from '../../example/index.ts';
import { collectPair, parseCount, parseDuration, parseRate } from '../arguments.ts';
import { type HubOptions, hubAccess, openHub, withHubOptions } from '../connect.ts';
import { exitCodes } from '../exit-codes.ts';
import { loadSchemas } from '../payload-options.ts';
import type { Verb, VerbContext } from '../run.ts';
import { pause } from '../waiting.ts';

interface Options extends HubOptions {
  devices: number;
  prefix: string;
  label?: Record<string, string>;
  eventsEvery: number;
  rate?: number;
  duration?: number;
}

/** Devices that begin to connect together; the next ones follow when these are done. */
const atOnce = 50;
const reportEveryMs = 1000;

/** `signalbox simulate --devices 100 --rate 50`: many pumps in this process, and commands for them. */
export const simulate: Verb = {
  declare: () =>
    withHubOptions(
      new Command('simulate')
        .description('Be many simulated pumps, to try a hub with some load, until Ctrl-C.')
        .option('--devices <n>', 'how many', parseCount, 10)
        .option('--prefix <text>', 'their client ids are <prefix>1, <prefix>2...', 'sim-')
        .option('--label <key=value>', 'a label of all of them; may be repeated', collectPair)
        .option('--events-every <time>', 'time between two temperature events of one device', parseDuration, 5000)
        .option('--rate <n>', 'also send so many commands a second to random ones of them', parseRate)
        .option('--duration <time>', 'end after this time (default: at Ctrl-C)', parseDuration),
    ),

  examples: ['simulate --devices 100', 'simulate --devices 500 --rate 200 --duration 1m --json'],

  async run(_args, options: Options, context) {
    const { terminal, signal } = context;
    const counts: Counts = { connected: 0, events: 0, commands: 0, succeeded: 0, failed: 0 };
    const stop = new AbortController();
    const end = (): void => stop.abort(signal.reason);
    signal.addEventListener('abort', end, { once: true });
    const timer = options.duration === undefined ? undefined : setTimeout(end, options.duration);
    if (signal.aborted) end();
    const devices: Simulated[] = [];
    try {
      for (let first = 1; first <= options.devices && !stop.signal.aborted; first += atOnce) {
        const last = Math.min(first + atOnce - 1, options.devices);
        const numbers = Array.from({ length: last - first + 1 }, (_, index) => first + index);
        const connected = await Promise.allSettled(
          numbers.map((n) => connect(n, options, context, counts, stop.signal)),
        );
        for (const each of connected) if (each.status === 'fulfilled') devices.push(each.value);
        const refused = connected.find((each) => each.status === 'rejected');
        if (refused && !stop.signal.aborted) throw refused.reason;
        terminal.progress(`${last} of ${options.devices} devices`);
      }
      terminal.tell({ event: 'ready', devices: devices.length }, `${devices.length} devices are connected`);
      await Promise.all([report(context, counts, stop.signal), load(options, context, counts, stop.signal)]);
    } finally {
      stop.abort();
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      for (const { pump } of devices) pump.close();
      await Promise.all(devices.map(({ device }) => device.close()));
    }
    terminal.tell({ event: 'ended', ...counts }, `ended: ${countsText(counts)}`);
    return counts.failed === 0 ? exitCodes.ok : exitCodes.failed;
  },
};

interface Simulated {
  readonly device: Device;
  readonly pump: PumpSimulation;
}

interface Counts {
  connected: number;
  events: number;
  commands: number;
  succeeded: number;
  failed: number;
}

async function connect(
  number: number,
  options: Options,
  { outside }: VerbContext,
  counts: Counts,
  signal: AbortSignal,
): Promise<Simulated> {
  const { connectDevice } = await import('../../device/index.ts');
  let isConnected = false;
  const device = await connectDevice({
    ...hubAccess(options, outside),
    clientId: `${options.prefix}${number}`,
    labels: options.label,
    agent: 'signalbox-simulate',
    signal,
    observe: (fact) => {
      if (fact.kind !== 'state-changed') return;
      const isNow = fact.state.kind === 'connected';
      if (isNow !== isConnected) counts.connected += isNow ? 1 : -1;
      isConnected = isNow;
    },
  });
  const emit = (type: string, data: unknown): void => {
    counts.events++;
    // A full buffer is a fact of the device's; here it is part of what is tried out.
    device.emit(type, data).catch(() => undefined);
  };
  const pump = simulatedPump({ emit, rampMs: 20, temperatureEveryMs: options.eventsEvery });
  device.implement(PumpServiceDefinition, pump.service);
  return { device, pump };
}

/** Sends commands at the asked rate, whatever becomes of those before. */
async function load(options: Options, context: VerbContext, counts: Counts, signal: AbortSignal): Promise<void> {
  const { rate } = options;
  if (rate === undefined) return;
  await using hub = await openHub(options, context.outside);
  const schemas = await loadSchemas({});
  const running = new Set<Promise<void>>();
  let firstFailure: HubError | undefined;
  const send = async (): Promise<void> => {
    const clientId = `${options.prefix}${1 + Math.floor(Math.random() * options.devices)}`;
    const caller = new PayloadCaller({ clientId, transport: hub.transport });
    const rpm = 1 + Math.floor(Math.random() * 6000);
    counts.commands++;
    try {
      await caller.settle(schemas.encode({ method: 'PumpService/Start', json: { rpm } }));
      counts.succeeded++;
    } catch (error) {
      counts.failed++;
      firstFailure ??= toHubError(error);
    }
  };
  const beganAt = performance.now();
  for (let sent = 0; !signal.aborted; sent++) {
    const dueMs = beganAt + (sent * 1000) / rate - performance.now();
    if (dueMs > 1) await pause(dueMs, signal);
    if (signal.aborted) break;
    const one = send();
    running.add(one);
    void one.finally(() => running.delete(one));
    // A hub that does not keep up is not buried: no more than ten seconds' worth are on their way.
    if (running.size >= Math.max(100, rate * 10)) await Promise.race(running);
  }
  await Promise.all(running);
  if (firstFailure) context.terminal.note(`the first failure: ${firstFailure.code}: ${firstFailure.message}`);
}

async function report({ terminal }: VerbContext, counts: Counts, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await pause(reportEveryMs, signal);
    if (terminal.isJson) terminal.tell({ event: 'progress', ...counts });
    else terminal.progress(countsText(counts));
  }
}

const countsText = ({ connected, events, commands, succeeded, failed }: Counts): string =>
  `${connected} connected, ${events} events, ${commands} commands (${succeeded} succeeded, ${failed} failed)`;
