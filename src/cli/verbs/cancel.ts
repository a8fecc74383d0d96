import { Command } from 'commander';
import { type CommandUpdate, isTerminalUpdate } from '../../protocol/command.ts';
import { updateFromProto } from '../../protocol/convert.ts';
import { parseDuration } from '../arguments.ts';
import { type HubOptions, openHub, withHubOptions } from '../connect.ts';
import { exitCodes } from '../exit-codes.ts';
import { loadSchemas } from '../payload-options.ts';
import { watchCommand } from '../remote-updates.ts';
import type { Verb } from '../run.ts';
import { tellUpdate } from '../updates.ts';

interface Options extends HubOptions {
  reason?: string;
  timeout?: number;
}

/** `signalbox cancel <id>`: asks for a command to be stopped, and waits for its end. */
export const cancel: Verb = {
  declare: () =>
    withHubOptions(
      new Command('cancel')
        .description('Cancel a command, and wait for its end.')
        .argument('<commandId>', 'its id, as `send` prints it')
        .option('--reason <text>', 'why, for the device and the log')
        .option('--timeout <time>', 'how long to wait for the end (default: 30s)', parseDuration),
    ).addHelpText(
      'after',
      '\nExit code 0: it is cancelled. 1: it ended otherwise. 4: the device has not said so in time.',
    ),

  examples: ['cancel 5b0a-4f2e', 'cancel 5b0a-4f2e --reason "wrong pump" --json'],

  async run([commandId], options: Options, { terminal, outside, signal }) {
    await using hub = await openHub(options, outside);
    const schemas = await loadSchemas({});
    const request = { commandId: commandId as string, reason: options.reason ?? '' };
    const { update } = await hub.services.commands.cancelCommand(request, { signal });
    let last = updateFromProto(update);
    if (isTerminalUpdate(last)) tellUpdate(terminal, last, schemas);
    else {
      const updates = watchCommand(hub, request.commandId, { signal, timeoutMs: options.timeout ?? 30_000 });
      for await (last of after(last, updates)) tellUpdate(terminal, last, schemas);
    }
    if (last.state === 'unknown') return exitCodes.timedOut;
    return last.state === 'cancelled' ? exitCodes.ok : exitCodes.failed;
  },
};

/** A command's story is told from its beginning; this leaves out what happened up to `known`. */
async function* after(known: CommandUpdate, updates: AsyncIterable<CommandUpdate>): AsyncGenerator<CommandUpdate> {
  let isNew = false;
  for await (const update of updates) {
    isNew ||= update.atMs > known.atMs || isTerminalUpdate(update);
    if (isNew) yield update;
    isNew ||= update.atMs === known.atMs && update.state === known.state;
  }
}
