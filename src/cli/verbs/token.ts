import { Command } from 'commander';
import type { Scope } from '../../auth/principal.ts';
import { HubError } from '../../errors.ts';
import { loadOptions } from '../../server/load-options.ts';
import { collect, parseDuration, readText } from '../arguments.ts';
import { exitCodes } from '../exit-codes.ts';
import type { Verb } from '../run.ts';

interface Options {
  subject?: string;
  scope?: string[];
  tenant?: string;
  clientId?: string;
  channel?: string[];
  ttl?: number;
  data?: string;
  authSecretFile?: string;
  config?: string;
}

/** `signalbox token --client-id pump-7`: a token for a device, signed with the hub's own secret. */
export const token: Verb = {
  declare: () =>
    new Command('token')
      .description('Mint a token with the secret of a hub on this machine, and print it.')
      .option('--subject <name>', 'who it is for (default: the client id)')
      .option('--scope <scope>', 'what it allows; may be repeated (default: device with --client-id)', collect)
      .option('--client-id <id>', 'for a device: the only client id it may connect as')
      .option('--tenant <name>', 'whose devices it is about (default: default)')
      .option('--channel <pattern>', 'the only channels it may read, such as client.*; may be repeated', collect)
      .option('--ttl <time>', 'how long it is valid: 10m, 24h, 30d (default: 24h)', parseDuration)
      .option('--data <dir>', 'data directory of the hub (default: as for serve)')
      .option('--auth-secret-file <file>', 'file with the secret, where it is not in the data directory')
      .option('--config <file>', 'config file of the hub'),

  examples: [
    'token --client-id pump-7 --ttl 30d > pump-7.token',
    'token --subject ops --scope commands:send --scope clients:read --scope events:read',
  ],

  async run(_args, options: Options, { terminal, outside }) {
    const { checkSecret, ensureSecret, mintToken } = await import('../../auth/index.ts');
    const ttlMs = options.ttl ?? 24 * 3_600_000;
    const subject = options.subject ?? options.clientId;
    if (subject === undefined) throw new HubError('invalid-argument', 'name --subject, or --client-id for a device');
    const scopes = options.scope ?? (options.clientId === undefined ? undefined : ['device']);
    if (scopes === undefined) throw new HubError('invalid-argument', 'name at least one --scope');
    const { data, authSecretFile, authIssuer, authAudience } = await loadOptions({
      overrides: { data: options.data, authSecretFile: options.authSecretFile, auth: 'jwt' },
      config: options.config,
      env: outside.env,
    });
    const secret = authSecretFile === undefined ? await ensureSecret(data) : readText(authSecretFile).trim();
    if (authSecretFile !== undefined) checkSecret(secret, authSecretFile);
    const minted = await mintToken({
      secret,
      issuer: authIssuer,
      audience: authAudience,
      subject,
      scopes: scopes.flatMap((each) => each.split(/[,\s]+/)) as Scope[],
      tenant: options.tenant,
      clientId: options.clientId,
      channels: options.channel,
      ttlMs,
    });
    const expiresAt = new Date(Date.now() + ttlMs).toISOString();
    terminal.tell({ token: minted, subject, scopes, expiresAt }, minted);
    return exitCodes.ok;
  },
};
