import { Command } from 'commander';
import { updateFromProto, whenOfflineFromProto } from '../../protocol/convert.ts';
import { printable } from '../../server/printable.ts';
import { parseDuration } from '../arguments.ts';
import { type HubOptions, openHub, withHubOptions } from '../connect.ts';
import { exitCodes } from '../exit-codes.ts';
import { loadSchemas, type ProtoOptions, withProtoOptions } from '../payload-options.ts';
import { watchCommand } from '../remote-updates.ts';
import type { Verb } from '../run.ts';
import { followUpdates, tellUpdate, updateJson } from '../updates.ts';

interface Options extends HubOptions, ProtoOptions {
  watch?: boolean;
  timeout?: number;
}

/** `signalbox command <id>`: what the hub knows of one command. */
export const command: Verb = {
  declare: () =>
    withProtoOptions(
      withHubOptions(
        new Command('command')
          .description('Tell what became of a command.')
          .argument('<commandId>', 'its id, as `send` prints it')
          .option('--watch', 'tell its updates until its end, and exit as `send` would')
          .option('--timeout <time>', 'with --watch: no longer than this', parseDuration),
      ),
    ),

  examples: ['command 5b0a-4f2e', 'command 5b0a-4f2e --watch --json'],

  async run([commandId], options: Options, { terminal, outside, signal }) {
    await using hub = await openHub(options, outside);
    const schemas = await loadSchemas(options);
    const id = commandId as string;
    if (options.watch) {
      const updates = watchCommand(hub, id, { signal, timeoutMs: options.timeout });
      try {
        return await followUpdates(terminal, updates, schemas);
      } catch (error) {
        if (signal.aborted) return exitCodes.ok; // nobody watches any more; the command goes on
        throw error;
      }
    }
    const { record } = await hub.services.commands.getCommand({ commandId: id }, { signal });
    const last = updateFromProto(record?.last);
    const { type = '', acceptedAtMs = 0, whenOffline = 0 } = record ?? {};
    const acceptedAt = new Date(acceptedAtMs).toISOString();
    const policy = whenOfflineFromProto(whenOffline);
    if (terminal.isJson) terminal.tell({ ...updateJson(last, schemas), type, whenOffline: policy, acceptedAt });
    else {
      const kind = policy === 'queue' ? 'queued' : 'live';
      terminal.tell(
        undefined,
        `${id}: ${kind} ${printable(type)} for ${printable(last.clientId)}, accepted ${acceptedAt}`,
      );
      tellUpdate(terminal, last, schemas);
    }
    return exitCodes.ok;
  },
};
