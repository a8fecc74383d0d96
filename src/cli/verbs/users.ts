import { Argument, Command } from 'commander';
import type { Scope } from '../../auth/principal.ts';
import { HubError } from '../../errors.ts';
import { loadOptions } from '../../server/load-options.ts';
import { collect } from '../arguments.ts';
import { exitCodes } from '../exit-codes.ts';
import type { Verb } from '../run.ts';
import { readAll, table } from '../terminal.ts';

interface Options {
  scope?: string[];
  channel?: string[];
  tenant?: string;
  data?: string;
  config?: string;
}

/** `signalbox users add ann`: who can log in by name and password at the hub of this data directory. */
export const users: Verb = {
  declare: () =>
    new Command('users')
      .description('Add, list and remove the users who log in by name and password.')
      .addArgument(new Argument('<action>', 'what to do').choices(['add', 'list', 'remove']))
      .argument('[name]', 'the user')
      .option('--scope <scope>', 'what the user may; may be repeated (default: tasks:run and events:read)', collect)
      .option('--channel <pattern>', 'a channel that the user may read beside user.<name>; may be repeated', collect)
      .option('--tenant <name>', 'whose devices and runs it is about (default: default)')
      .option('--data <dir>', 'data directory of the hub (default: as for serve)')
      .option('--config <file>', 'config file of the hub')
      .addHelpText(
        'after',
        '\nadd reads the password from standard input, or from SIGNALBOX_PASSWORD; for a known user it sets a new one.' +
          '\nA running hub sees the change at once; refresh tokens from before it are refused.',
      ),

  examples: ['users add ann < password.txt', 'users add ops --scope admin', 'users list --json', 'users remove ann'],

  async run([action, name], options: Options, { terminal, outside }) {
    const { UserFile } = await import('../../auth/index.ts');
    const { data } = await loadOptions({
      overrides: { data: options.data },
      config: options.config,
      env: outside.env,
    });
    const file = new UserFile(data);
    if (action === 'list') {
      const all = file.list().map(({ password: _, ...user }) => user);
      if (terminal.isJson) for (const user of all) terminal.tell(user);
      else if (all.length === 0) terminal.note('no users');
      else {
        const rows = all.map((user) => [
          user.name,
          user.tenant,
          user.scopes.join(' '),
          user.channels?.join(' ') ?? '*',
        ]);
        terminal.tell(undefined, table([['USER', 'TENANT', 'SCOPES', 'CHANNELS'], ...rows]));
      }
      return exitCodes.ok;
    }
    if (typeof name !== 'string') throw new HubError('invalid-argument', `users ${action} needs the name of the user`);
    if (action === 'remove') {
      if (!file.remove(name)) throw new HubError('not-found', `there is no user "${name}"`);
      terminal.tell({ removed: name }, `${name} is removed`);
      return exitCodes.ok;
    }
    if (outside.stdin.isTTY && !outside.env.SIGNALBOX_PASSWORD)
      throw new HubError(
        'invalid-argument',
        'give the password by standard input or SIGNALBOX_PASSWORD: it is not asked for',
      );
    const password = outside.env.SIGNALBOX_PASSWORD ?? (await readAll(outside.stdin)).replace(/\r?\n$/, '');
    const scopes = (options.scope ?? ['tasks:run', 'events:read']).flatMap((each) => each.split(/[,\s]+/)) as Scope[];
    // Without a pattern a user of the default scopes sees what is pushed to them, and no device.
    const channels = options.channel ?? (options.scope ? undefined : [`user.${name}`]);
    const user = await file.put({ name, tenant: options.tenant, scopes, channels, password } as Parameters<
      typeof file.put
    >[0]);
    terminal.tell({ name, tenant: user.tenant, scopes }, `${name} can log in: ${scopes.join(' ')}`);
    return exitCodes.ok;
  },
};
