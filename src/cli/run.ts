import { Command, CommanderError, Option } from 'commander';
import { HubError } from '../errors.ts';
import { type ExitCode, exitCodeHelp, exitCodeOfError, exitCodes } from './exit-codes.ts';
import { type Outside, Terminal } from './terminal.ts';

/** What a verb is run with. */
export interface VerbContext {
  readonly terminal: Terminal;
  readonly outside: Outside;
  /** Aborted by the first Ctrl-C or SIGTERM; the second one ends the process. */
  readonly signal: AbortSignal;
}

/** A verb of the command: how it is written, and what it does. */
export interface Verb {
  /** Declares arguments and options, without `--json` and `--help`: every verb has those. */
  declare(): Command;
  /** Command lines for the help, without the leading `signalbox`. */
  readonly examples: readonly string[];
  /** Runs it; `main` makes an exit code of what it throws. */
  run(args: readonly (string | string[] | undefined)[], options: never, context: VerbContext): Promise<ExitCode>;
}

/** Runs one command line. Resolves to its exit code and never throws. */
export async function run(
  argv: readonly string[],
  verbs: readonly Verb[],
  outside: Outside,
  { version, signal }: { version: string; signal: AbortSignal },
): Promise<ExitCode> {
  let code: ExitCode = exitCodes.ok;
  const isJson = argv.includes('--json');
  const program = new Command('signalbox')
    .description('Command devices over their live streams, and watch it all.')
    .version(version)
    .addHelpText('after', `\n${exitCodeHelp}`)
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({
      writeOut: (text) => void outside.stdout.write(text),
      writeErr: (text) => void outside.stderr.write(text),
      outputError: (text, write) => {
        // With --json an error is an object like everything else.
        const message = text.replace(/^error: /, '').trim();
        if (isJson) new Terminal(outside, { json: true }).fail(new HubError('invalid-argument', message));
        else write(text);
      },
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });

  for (const verb of verbs) {
    const command = verb.declare();
    command
      .option('--json', 'one JSON object a line')
      .addOption(refused('token', 'use --token-file <file> or the variable SIGNALBOX_TOKEN'))
      .addOption(refused('secret', 'use --auth-secret-file <file> or SIGNALBOX_AUTH_SECRET_FILE'))
      .addOption(refused('password', 'Signalbox has none; use --token-file <file> or SIGNALBOX_TOKEN'))
      .addHelpText('after', ['\nExamples:', ...verb.examples.map((line) => `  signalbox ${line}`)].join('\n'))
      .addHelpText('after', `\n${exitCodeHelp}`)
      .copyInheritedSettings(program)
      .action(async (...given: unknown[]) => {
        const options = command.opts<{ json?: boolean }>();
        const terminal = new Terminal(outside, options);
        const args = given.slice(0, -2) as (string | string[] | undefined)[];
        try {
          code = await verb.run(args, options as never, { terminal, outside, signal });
        } catch (error) {
          terminal.fail(error);
          code = exitCodeOfError(error);
        }
      });
    program.addCommand(command);
  }

  try {
    refuseSecrets(argv);
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === secretInArguments) new Terminal(outside, { json: isJson }).fail(asUsage(error));
    code = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  }
  return code;
}

/** A secret that stands where it does not belong is not repeated in an error message, nor used. */
function refuseSecrets(argv: readonly string[]): void {
  const line = argv.join('\n');
  for (const { what, pattern, instead } of secrets) {
    if (!pattern.test(line)) continue;
    const why = `there is ${what} among the arguments: every user of this machine can read command lines; ${instead}`;
    throw new CommanderError(exitCodes.usage, secretInArguments, why);
  }
}

const secrets = [
  {
    what: 'a token',
    pattern: /\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*/,
    instead: 'use --token-file <file> or SIGNALBOX_TOKEN',
  },
  {
    what: 'a password of Redis',
    pattern: /^--redis[=\n]redis(?:s|\+sentinel)?:\/\/[^/@\s]*:[^/@\s]+@/m,
    instead: 'use SIGNALBOX_REDIS, REDIS_URL or the config file',
  },
];

const secretInArguments = 'signalbox.secretInArguments';

const asUsage = (error: Error): HubError => new HubError('invalid-argument', error.message);

/** Secrets in an argument list are shown to everybody by `ps`, and kept by the shell's history. */
function refused(name: string, instead: string): Option {
  return new Option(`--${name} [value]`)
    .hideHelp()
    .preset('')
    .argParser(() => {
      const why = `--${name} takes no secret: every user of this machine can read command lines; ${instead}`;
      throw new CommanderError(exitCodes.usage, secretInArguments, why);
    });
}
