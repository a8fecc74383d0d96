import { Command } from 'commander';
import { loadOptions } from '../../server/load-options.ts';
import { printable } from '../../server/printable.ts';
import type { DatabaseContents, Finding } from '../../sqlite/doctor.ts';
import { exitCodes } from '../exit-codes.ts';
import type { Verb } from '../run.ts';
import type { Colour } from '../terminal.ts';

interface Options {
  data?: string;
  config?: string;
}

const colours: Record<Finding['severity'], Colour> = { ok: 'green', warning: 'yellow', error: 'red' };

/** `signalbox doctor`: looks at a data directory and the options, and says what is wrong. */
export const doctor: Verb = {
  declare: () =>
    new Command('doctor')
      .description('Look at a data directory, in use or not, and say what is wrong and what to do. Changes nothing.')
      .option('--data <dir>', 'the directory (default: as for serve)')
      .option('--config <file>', 'config file of the hub')
      .addHelpText('after', '\nExit code 1: a hub cannot work with it as it is.'),

  examples: ['doctor', 'doctor --data /var/lib/signalbox --json'],

  async run(_args, options: Options, { terminal, outside }) {
    const { data } = await loadOptions({
      overrides: { data: options.data },
      config: options.config,
      env: outside.env,
    });
    const { doctor: examine } = await import('../../sqlite/index.ts');
    const { directory, isHealthy, findings, contents } = await examine(data);
    for (const finding of findings) {
      const { severity, message, advice } = finding;
      const text = `${terminal.paint(colours[severity], severity.padEnd(7))}  ${printable(message)}`;
      terminal.tell(
        { event: 'finding', ...finding },
        advice === undefined ? text : `${text}\n         ${printable(advice)}`,
      );
    }
    const summary = contents === undefined ? undefined : `         ${contentsText(contents)}`;
    terminal.tell({ event: 'report', directory, isHealthy, contents }, summary);
    return isHealthy ? exitCodes.ok : exitCodes.failed;
  },
};

function contentsText({ pendingCommands, endedCommands, events, channels, databaseBytes }: DatabaseContents): string {
  const mebibytes = (databaseBytes / 2 ** 20).toFixed(1);
  return `${pendingCommands} commands wait, ${endedCommands} ended; ${events} events in ${channels} channels; ${mebibytes} MiB`;
}
