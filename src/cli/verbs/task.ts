import { Argument, Command, InvalidArgumentError } from 'commander';
import { HubError } from '../../errors.ts';
import { printable } from '../../server/printable.ts';
import { collect, parseCount, parseDuration, readJson } from '../arguments.ts';
import { type ExitCode, exitCodes } from '../exit-codes.ts';
import { GatewayClient, type GatewayOptions, type StreamedEvent, withGatewayOptions } from '../gateway-client.ts';
import type { Verb, VerbContext } from '../run.ts';
import { readAll, type Terminal, table } from '../terminal.ts';

interface Options extends GatewayOptions {
  idempotencyKey?: string;
  delay?: number;
  owner?: string;
  tag?: string[];
  priority?: number;
  detach?: boolean;
  state?: string;
  task?: string;
  limit?: number;
  reason?: string;
}

/** A run as the gateway shows it. */
interface ShownRun {
  readonly id: string;
  readonly task: string;
  readonly state: 'queued' | 'running' | 'succeeded' | 'failed' | 'cancelled';
  readonly owner?: string;
  readonly attempt: number;
  readonly result?: unknown;
  readonly error?: { readonly code: string; readonly message: string };
  readonly createdAt: string;
}

const parsePriority = (text: string): number => {
  if (!/^-?\d{1,3}$/.test(text)) throw new InvalidArgumentError('write a whole number from -100 to 100.');
  return Number(text);
};

/** `signalbox task run three-steps '{"name": "demo"}'`: runs of tasks, over the gateway. */
export const task: Verb = {
  declare: () =>
    withGatewayOptions(
      new Command('task')
        .description('Run tasks, and list, show, watch and cancel their runs.')
        .addArgument(
          new Argument('<action>', 'what to do').choices(['run', 'list', 'show', 'watch', 'cancel', 'types']),
        )
        .argument('[what]', 'the task to run; the id of the run to show, watch or cancel')
        .argument('[json]', 'run: the input as JSON, @file, or - for stdin (default: {})')
        .option('--idempotency-key <key>', 'run: two with one key are one run')
        .option('--delay <time>', 'run: not before', parseDuration)
        .option('--owner <name>', 'run, list: whose run it is')
        .option('--tag <tag>', 'run: to find it by; may be repeated', collect)
        .option('--priority <number>', 'run: -100 to 100, higher ones run first', parsePriority)
        .option('--detach', 'run: print the id, and do not watch it')
        .option('--task <id>', 'list: only runs of this task')
        .option('--state <state>', 'list: only runs that are queued, running, succeeded, failed or cancelled')
        .option('--limit <n>', 'list: at most so many (default: 20)', parseCount)
        .option('--reason <text>', 'cancel: why'),
    ).addHelpText('after', '\nCtrl-C leaves the run alone; `signalbox task cancel` ends it.'),

  examples: [
    `task run three-steps '{"name": "demo"}'`,
    'task run reverse-string @input.json --idempotency-key 42 --detach',
    'task list --state running --json',
    'task watch 5b0a-4f2e',
    'task cancel 5b0a-4f2e --reason "not needed"',
  ],

  async run([action, what, json], options: Options, context) {
    const gateway = new GatewayClient(options, context.outside);
    const { terminal, signal } = context;
    if (action === 'types') {
      const { tasks } = await gateway.call<{ tasks: { id: string; isolation: string }[] }>('GET', '/v1/task-types');
      for (const each of tasks) terminal.tell(each, printable(`${each.id}  ${each.isolation}`));
      return exitCodes.ok;
    }
    if (action === 'list') return list(gateway, options, terminal);
    if (typeof what !== 'string')
      throw new HubError(
        'invalid-argument',
        `task ${action} needs ${action === 'run' ? 'the id of a task' : 'the id of a run'}`,
      );
    const path = `/v1/tasks/${encodeURIComponent(what)}`;
    if (action === 'run') return run(gateway, what, json as string | undefined, options, context);
    if (action === 'watch') return follow(gateway, what, terminal, signal);
    const shown =
      action === 'cancel'
        ? await gateway.call<ShownRun>(
            'POST',
            `${path}/cancel`,
            options.reason === undefined ? {} : { reason: options.reason },
          )
        : await gateway.call<ShownRun>('GET', path);
    tellRun(terminal, shown);
    return exitCodes.ok;
  },
};

async function run(
  gateway: GatewayClient,
  name: string,
  json: string | undefined,
  options: Options,
  { terminal, outside, signal }: VerbContext,
): Promise<ExitCode> {
  const input = (await readJson(json, () => readAll(outside.stdin))) ?? {};
  const shown = await gateway.call<ShownRun>('POST', '/v1/tasks', {
    task: name,
    input,
    idempotencyKey: options.idempotencyKey,
    delayMs: options.delay,
    owner: options.owner,
    tags: options.tag,
    priority: options.priority,
  });
  if (options.detach) {
    terminal.tell(shown, shown.id);
    return exitCodes.ok;
  }
  terminal.note(`run ${shown.id}`);
  return follow(gateway, shown.id, terminal, signal);
}

async function list(gateway: GatewayClient, options: Options, terminal: Terminal): Promise<ExitCode> {
  const query = new URLSearchParams({ limit: String(options.limit ?? 20) });
  for (const name of ['task', 'state', 'owner'] as const) if (options[name]) query.set(name, options[name]);
  const { runs } = await gateway.call<{ runs: ShownRun[] }>('GET', `/v1/tasks?${query}`);
  if (terminal.isJson) for (const each of runs) terminal.tell(each);
  else if (runs.length === 0) terminal.note('no runs');
  else {
    const rows = runs.map(({ id, task: name, state, owner = '-', attempt, createdAt }) => [
      id,
      name,
      state,
      owner,
      String(attempt),
      createdAt.slice(0, 19).replace('T', ' '),
    ]);
    terminal.tell(undefined, table([['RUN', 'TASK', 'STATE', 'OWNER', 'ATTEMPT', 'CREATED'], ...rows]));
  }
  return exitCodes.ok;
}

/** Tells a run's events to its end; the exit code says how it ended. */
async function follow(gateway: GatewayClient, id: string, terminal: Terminal, signal: AbortSignal): Promise<ExitCode> {
  for await (const event of gateway.events(`/v1/tasks/${encodeURIComponent(id)}/events`, signal)) {
    tellEvent(terminal, event);
    if (event.type === 'done') break;
  }
  if (signal.aborted) return exitCodes.ok;
  const { state, error } = await gateway.call<ShownRun>('GET', `/v1/tasks/${encodeURIComponent(id)}`);
  if (state === 'succeeded') return exitCodes.ok;
  return error?.code === 'timed-out' ? exitCodes.timedOut : exitCodes.failed;
}

function tellEvent(terminal: Terminal, event: StreamedEvent): void {
  const { context: _, ...data } = (event.data ?? {}) as Record<string, unknown>;
  const time = terminal.paint('grey', event.at === '' ? '--:--:--.---' : event.at.slice(11, 23));
  const name = terminal.paint(event.type.startsWith('hub.') ? 'yellow' : 'cyan', printable(event.type));
  terminal.tell(event, `${time}  ${name}  ${printable(JSON.stringify(data))}`);
}

function tellRun(terminal: Terminal, shown: ShownRun): void {
  const lines = Object.entries(shown).map(
    ([name, value]) => `${name.padEnd(12)} ${printable(typeof value === 'string' ? value : JSON.stringify(value))}`,
  );
  terminal.tell(shown, lines.join('\n'));
}
