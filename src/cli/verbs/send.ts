import { Command } from 'commander';
import { PayloadCaller } from '../../commands/payload-caller.ts';
import { HubError, toHubError } from '../../errors.ts';
import type { CommandState, CommandUpdate } from '../../protocol/command.ts';
import { printable } from '../../server/printable.ts';
import { parseDuration } from '../arguments.ts';
import { type HubOptions, openHub, withHubOptions } from '../connect.ts';
import { type EmbeddedOptions, embedHub } from '../embedded.ts';
import { type ExitCode, exitCodeOfError, exitCodes } from '../exit-codes.ts';
import { encodePayload, type PayloadOptions, withPayloadOptions } from '../payload-options.ts';
import type { Verb } from '../run.ts';
import { type SendFlags, sendOptions, withSendOptions } from '../send-flags.ts';
import { followUpdates } from '../updates.ts';

interface Options extends HubOptions, PayloadOptions, SendFlags, EmbeddedOptions {
  grpc?: string;
}

/** How long a queued command is watched whose device is there, in ms. */
const queuedPatienceMs = 30_000;

/** `signalbox send pump-7 start '{"rpm": 1200}'`: sends one command and prints what becomes of it. */
export const send: Verb = {
  declare: () =>
    withSendOptions(
      withPayloadOptions(
        withHubOptions(
          new Command('send')
            .description('Send a command to a device, and print each update until its end.')
            .argument('<clientId>', 'the device')
            .argument('[method]', 'as you write it: start, configUpdate, PumpService/Start, or the full path')
            .argument('[json]', 'the request as JSON, @file, or - for stdin (default: the empty message)')
            .option('--wait <time>', 'live: how long to wait for the device to connect', parseDuration)
            .option('--idempotency-key <key>', 'two sends with one key are one command')
            .option('--id <commandId>', 'the command id (default: a new UUID)')
            .option('--embedded', 'run the hub in this process: devices connect to --grpc, and --wait is for them')
            .option('--data <dir>', 'with --embedded: directory of its store (default: as for serve)'),
        ),
      ),
    ).addHelpText(
      'after',
      '\nA queued command whose device is away is stored, and send ends with 0; with --timeout it is watched that long.' +
        '\nThe first Ctrl-C asks for a cancel and waits for the end, the second one ends at once.',
    ),

  examples: [
    `send pump-7 start '{"rpm": 1200}'`,
    `send pump-7 configUpdate '{"config": {"maxRpm": 900}}' --queue --ttl 1h`,
    'send pump-7 stop --embedded --wait 30s',
    `send door-1 Open '{"seconds": 5}' --proto door.proto`,
    'send pump-7 tailLog @request.json --json',
  ],

  async run([clientId, method, json], options: Options, { terminal, outside, signal }) {
    if (options.data !== undefined && !options.embedded)
      throw new HubError('invalid-argument', '--data goes with --embedded: another hub has its own');
    await using hub = options.embedded ? await embedHub(options, outside, terminal) : await openHub(options, outside);
    const parts = [method, json] as [string | undefined, string | undefined];
    const { payload, schemas } = await encodePayload(parts, options, outside, hub.reflect);
    const caller = new PayloadCaller({ clientId: clientId as string, transport: hub.transport });
    const isQueued = options.queue === true;
    const patienceMs = options.timeout ?? queuedPatienceMs;
    const overdue = isQueued ? AbortSignal.timeout(patienceMs) : undefined;

    const onUpdate = async (): Promise<ExitCode | undefined> => {
      if (!isQueued || options.timeout !== undefined) return undefined;
      if ((await hub.isConnected(clientId as string)) !== false) return undefined;
      terminal.note(`${printable(clientId as string)} is away; the command is kept until it comes or its time is over`);
      return exitCodes.ok;
    };
    const updates = caller.updates(payload, { ...sendOptions(options, outside), signal });
    let last: CommandUpdate | undefined;
    let isAsked = false;
    try {
      return await followUpdates(terminal, until(updates, overdue, patienceMs), schemas, async (update) => {
        last = update;
        if (update.state !== 'queued' || isAsked) return undefined;
        isAsked = true;
        return onUpdate();
      });
    } catch (error) {
      const known = (error as HubError).commandId ?? last?.commandId ?? options.id;
      terminal.fail(error, { commandId: known, clientId, state: stateOf(error, last?.state) });
      return exitCodeOfError(error);
    }
  },
};

/** What to call a command whose end no update told: the last state that is known, or why there is none. */
function stateOf(error: unknown, last: CommandState | undefined): string {
  const { code } = toHubError(error);
  if (code === 'outcome-unknown') return 'unknown';
  if (last !== undefined) return last;
  return code === 'client-offline' ? 'offline' : code === 'command-cancelled' ? 'cancelled' : 'refused';
}

/** The items, until `overdue`; then `deadline-exceeded`. The command itself goes on. */
async function* until<T>(items: AsyncIterable<T>, overdue: AbortSignal | undefined, afterMs: number): AsyncIterable<T> {
  if (overdue === undefined) return yield* items;
  const late = new Promise<never>((_, reject) => {
    overdue.addEventListener('abort', () =>
      reject(new HubError('deadline-exceeded', `no end within ${afterMs} ms; the queued command goes on`)),
    );
  });
  late.catch(() => undefined); // heard by the race below, if at all
  const iterator = items[Symbol.asyncIterator]();
  try {
    for (;;) {
      const step = await Promise.race([iterator.next(), late]);
      if (step.done) return;
      yield step.value;
    }
  } finally {
    void iterator.return?.();
  }
}
