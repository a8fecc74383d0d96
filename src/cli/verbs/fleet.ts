import { Command } from 'commander';
import { type FleetOptions, fleet as fleetOf } from '../../commands/fleet.ts';
import type { FleetOutcome } from '../../commands/fleet-run.ts';
import type { FleetSelector } from '../../commands/fleet-selector.ts';
import { HubError } from '../../errors.ts';
import { printable } from '../../server/printable.ts';
import { collect, parseCount, parseDuration, parseRate } from '../arguments.ts';
import { type HubOptions, openHub, withHubOptions } from '../connect.ts';
import { type ExitCode, exitCodes } from '../exit-codes.ts';
import { encodePayload, type PayloadOptions, withPayloadOptions } from '../payload-options.ts';
import type { Verb } from '../run.ts';
import { type SendFlags, sendOptions, withSendOptions } from '../send-flags.ts';
import type { Terminal } from '../terminal.ts';
import { payloadJson, shown } from '../updates.ts';

interface Options extends HubOptions, PayloadOptions, SendFlags {
  exclude?: string[];
  concurrency?: number;
  rate?: number;
  abortAfter?: number;
  dryRun?: boolean;
}

/** `signalbox fleet site=north stop`: one command to many devices. */
export const fleet: Verb = {
  declare: () =>
    withSendOptions(
      withPayloadOptions(
        withHubOptions(
          new Command('fleet')
            .description('Send one command to many devices, and print each outcome as it comes.')
            .argument('<selector>', 'all, ids (pump-1,pump-2), or labels that all have to match (site=north,kind=pump)')
            .argument('[method]', 'as you write it: start, configUpdate, PumpService/Start, or the full path')
            .argument('[json]', 'the request as JSON, @file, or - for stdin (default: the empty message)')
            .option('--exclude <clientId>', 'not this one; may be repeated', collect)
            .option('--concurrency <n>', 'commands on their way at once (default: 32)', parseCount)
            .option('--rate <n>', 'most commands begun in a second (default: no limit)', parseRate)
            .option('--abort-after <n>', 'begin no more once so many have not succeeded', parseCount)
            .option('--wait <time>', 'live: how long to wait for a device to connect', parseDuration)
            .option('--dry-run', 'only tell who would be meant'),
        ),
      ),
    ).addHelpText(
      'after',
      '\nLive commands go to connected devices only, unless they are named by id. With --queue an outcome is that the' +
        '\ncommand is stored. Exit code 3 or 4: all that missed were offline, or timed out or unknown.',
    ),

  examples: [
    'fleet all stop',
    `fleet site=north start '{"rpm": 900}' --concurrency 10 --abort-after 3`,
    `fleet pump-1,pump-2 configUpdate '{"config": {"maxRpm": 900}}' --queue --json`,
  ],

  async run([selector, method, json], options: Options, { terminal, outside, signal }) {
    await using hub = await openHub(options, outside);
    const parts = [method, json] as [string | undefined, string | undefined];
    const encoded = options.dryRun ? undefined : await encodePayload(parts, options, outside, hub.reflect);
    const settings: FleetOptions = {
      ...sendOptions(options, outside),
      transport: hub.transport,
      clients: hub.transport,
      concurrency: options.concurrency,
      ratePerSecond: options.rate,
      abortAfterFailures: options.abortAfter,
      signal,
    };
    await using chosen = fleetOf(parseSelector(selector as string, options.exclude), settings);
    const ids = await chosen.ids();
    if (ids.length === 0) throw new HubError('not-found', `no device is meant by ${printable(selector as string)}`);
    if (encoded === undefined) {
      for (const clientId of ids) terminal.tell({ clientId }, printable(clientId));
      return exitCodes.ok;
    }
    const { payload, schemas } = encoded;
    await using fixed = fleetOf({ ids }, settings);
    const counts: Record<string, number> = {};
    let ended = 0;
    const note = (outcome: string): void => {
      counts[outcome] = (counts[outcome] ?? 0) + 1;
      terminal.progress(`${++ended} of ${ids.length}  ${summary(counts)}`);
    };
    if (options.queue)
      for await (const one of fixed.send(payload)) {
        tellOutcome(terminal, one, ({ commandId, state }) => ({ commandId, state }));
        note(one.outcome);
      }
    else
      for await (const one of fixed.request(payload)) {
        tellOutcome(terminal, one, (result) => ({ result: payloadJson(result, schemas) }));
        note(one.outcome);
      }
    terminal.tell({ event: 'summary', clients: ids.length, ...counts });
    terminal.note(`${ids.length} in all: ${summary(counts)}`);
    return codeOf(counts);
  },
};

/** `all`, `a,b`, or `k=v,k=v`. */
export function parseSelector(text: string, exclude: readonly string[] = []): FleetSelector {
  if (text === 'all' || text === '*') return { all: true, exclude };
  const parts = text.split(',').map((part) => part.trim());
  if (!parts.some((part) => part.includes('='))) return { ids: parts, exclude };
  const odd = parts.find((part) => part.indexOf('=') < 1);
  if (odd !== undefined)
    throw new HubError('invalid-argument', `selector "${text}": "${odd}" is no label; write ids or labels, not both`);
  const labels = parts.map((part) => [part.slice(0, part.indexOf('=')), part.slice(part.indexOf('=') + 1)] as const);
  return { labels: Object.fromEntries(labels), exclude };
}

function tellOutcome<T>(terminal: Terminal, one: FleetOutcome<T>, show: (result: T) => object): void {
  const { clientId, outcome } = one;
  const id = printable(clientId).padEnd(20);
  if (one.outcome === 'succeeded') {
    const result = show(one.result);
    const text = shown('result' in result ? result.result : result);
    const line = `${id}  ${terminal.paint('green', outcome.padEnd(9))}  ${text}`;
    terminal.tell({ clientId, outcome, ...result }, line.trimEnd());
  } else if (one.outcome === 'skipped')
    terminal.tell({ clientId, outcome }, `${id}  ${terminal.paint('yellow', outcome)}`);
  else {
    const { code, message, commandId } = one.error;
    const text = `${id}  ${terminal.paint('red', outcome.padEnd(9))}  ${printable(message)}`;
    terminal.tell({ clientId, outcome, commandId, error: { code, message } }, text);
  }
}

const summary = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .map(([outcome, count]) => `${count} ${outcome}`)
    .join(', ');

function codeOf(counts: Readonly<Record<string, number>>): ExitCode {
  const missed = Object.keys(counts).filter((outcome) => outcome !== 'succeeded');
  if (missed.length === 0) return exitCodes.ok;
  if (missed.every((outcome) => outcome === 'offline')) return exitCodes.clientOffline;
  const isLate = missed.every((outcome) => ['timed-out', 'expired', 'unknown'].includes(outcome));
  return isLate ? exitCodes.timedOut : exitCodes.failed;
}
