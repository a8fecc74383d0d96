import { Command, Option } from 'commander';
import { HubError } from '../../errors.ts';
import type { ServeOptions } from '../../server/options.ts';
import { presets } from '../../server/presets.ts';
import { collect, parseCount, parseDuration } from '../arguments.ts';
import { exitCodes } from '../exit-codes.ts';
import { loadSchemas, type ProtoOptions, withProtoOptions } from '../payload-options.ts';
import type { Verb, VerbContext } from '../run.ts';
import { untilAborted } from '../waiting.ts';

interface Options extends ProtoOptions {
  grpc?: string[] | false;
  http?: string[] | false;
  data?: string;
  config?: string;
  preset?: ServeOptions['preset'];
  auth?: ServeOptions['auth'];
  authSecretFile?: string;
  authJwks?: string;
  authIssuer?: string;
  authAudience?: string;
  tlsCert?: string;
  tlsKey?: string;
  tlsCa?: string;
  allowHost?: string[];
  allowOrigin?: string[];
  node?: string;
  redis?: string;
  redisPrefix?: string;
  redisDurability?: ServeOptions['redisDurability'];
  clusterSecretFile?: string;
  clusterCa?: string;
  advertise?: string;
  nodes?: number;
  logLevel?: ServeOptions['logLevel'];
  drainTimeout?: number;
  tasks?: string[];
  role?: ServeOptions['role'];
  taskEngine?: ServeOptions['taskEngine'];
  json?: boolean;
}

const addresses = (text: string, before: string[] | false = []): string[] => [...(before || []), ...text.split(',')];
const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];

/** As many nodes as asked for, each with this command line but for its name and ports. */
async function several(options: Options, context: VerbContext) {
  const { loadOptions } = await import('../../server/load-options.ts');
  const { env } = context.outside;
  const {
    redis,
    grpc,
    http,
    node = 'node',
  } = await loadOptions({
    overrides: givenOptions(options),
    config: options.config,
    env,
  });
  if (redis === undefined)
    throw new HubError('invalid-argument', '--nodes needs a Redis that they share: --redis redis://127.0.0.1:6379');
  const { serveSeveral } = await import('../several-nodes.ts');
  const argv: string[] = [];
  for (const [name, value] of Object.entries(options)) {
    if (['nodes', 'node', 'grpc', 'http', 'json'].includes(name)) continue;
    const flag = `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    const text = name === 'drainTimeout' ? `${value}ms` : String(value);
    for (const each of Array.isArray(value) ? value.map(String) : [text]) argv.push(flag, each);
  }
  return serveSeveral(options.nodes!, { grpc, http, node }, argv, context);
}

/** Options that are not those of `serve`, or have another name there. */
const own = ['proto', 'protoPath', 'config', 'nodes', 'json', 'allowHost', 'allowOrigin', 'drainTimeout'];

/** What the command line says, in the words of `serve`. */
function givenOptions(options: Options): ServeOptions {
  const given = Object.fromEntries(Object.entries(options).filter(([name]) => !own.includes(name)));
  const { allowHost: hosts, allowOrigin: origins, drainTimeout: drainTimeoutMs } = options;
  return { ...given, hosts, origins, drainTimeoutMs } as ServeOptions;
}

/** `signalbox serve`: a hub with its gateway and store, until SIGTERM or Ctrl-C. */
export const serve: Verb = {
  declare: () =>
    withProtoOptions(
      new Command('serve')
        .description('Run a hub: devices and callers over gRPC, browsers and scripts over HTTP, until Ctrl-C.')
        .option('--grpc <address>', 'host:port or unix:///path; may be repeated (default: 127.0.0.1:50051)', addresses)
        .option('--no-grpc', 'no gRPC server')
        .option('--http <address>', 'host:port or unix:///path; may be repeated (default: 127.0.0.1:8080)', addresses)
        .option('--no-http', 'no HTTP gateway')
        .option('--data <dir>', 'directory of the store, or :memory: to keep nothing (default: .signalbox)')
        .option('--config <file>', 'config file (default: SIGNALBOX_CONFIG, or signalbox.config.json if there)')
        .addOption(new Option('--preset <name>', 'a tuning (default: production)').choices(Object.keys(presets)))
        .addOption(
          new Option('--auth <how>', 'who may come in (default: none on loopback, jwt with a secret)').choices([
            'none',
            'jwt',
            'mtls',
          ]),
        )
        .option('--auth-secret-file <file>', 'secret that signs tokens (default: made in the data directory)')
        .option('--auth-jwks <url>', 'https URL of the keys of whoever issues the tokens')
        .option('--auth-issuer <name>', "the tokens' iss (default: signalbox)")
        .option('--auth-audience <name>', "the tokens' aud (default: signalbox)")
        .option('--tls-cert <file>', "the server's certificate (PEM)")
        .option('--tls-key <file>', 'its key (PEM)')
        .option('--tls-ca <file>', "authority of clients' certificates (PEM)")
        .option('--allow-host <name>', 'a host name under which the gateway is reached; may be repeated', collect)
        .option('--allow-origin <url>', 'a web page that may use the gateway; may be repeated', collect)
        .addOption(
          new Option('--role <what>', 'all, hub (no runs of tasks) or worker (nothing else; needs --redis)').choices([
            'all',
            'hub',
            'worker',
          ]),
        )
        .option('--tasks <file>', 'a module that exports tasks (.ts or .js); may be repeated', collect)
        .addOption(
          new Option('--task-engine <name>', 'what brings runs to workers over Redis (default: own)').choices([
            'own',
            'bullmq',
          ]),
        )
        .option('--redis <url>', 'Redis that several nodes share (default: REDIS_URL, or none: this process is alone)')
        .option('--redis-prefix <name>', 'what our keys in Redis begin with (default: signalbox)')
        .addOption(
          new Option('--redis-durability <how>', 'what "stored" means with Redis (default: stored)').choices([
            'stored',
            'replicated',
            'none',
          ]),
        )
        .option('--cluster-secret-file <file>', 'secret by which nodes know each other (default: made, in Redis)')
        .option('--cluster-ca <file>', "authority of the other nodes' certificates (PEM; default: the system's)")
        .option('--advertise <address>', 'host:port at which the other nodes reach this one')
        .option('--nodes <count>', 'run this many nodes on this machine, on ports one after the other', parseCount)
        .option('--node <name>', 'name of this process among several')
        .addOption(new Option('--log-level <level>', 'how much the log on stderr tells').choices(logLevels))
        .option('--drain-timeout <time>', 'most time that running work has to end (default: 20s)', parseDuration),
    ).addHelpText(
      'after',
      '\nEvery option also has a variable (--data: SIGNALBOX_DATA) and a name in the config file.' +
        '\nSIGTERM or Ctrl-C drains and ends with 0; a second one ends at once, with 1.',
    ),

  examples: [
    'serve',
    'serve --grpc 127.0.0.1:0 --http 127.0.0.1:0 --data :memory: --json',
    'serve --grpc 0.0.0.0:50051 --http 0.0.0.0:8080 --auth jwt --tls-cert cert.pem --tls-key key.pem',
    'serve --grpc unix:///run/signalbox/grpc.sock --no-http',
    'serve --redis redis://127.0.0.1:6379 --nodes 3',
  ],

  async run(_args, options: Options, context) {
    const { terminal, outside, signal } = context;
    if (options.nodes !== undefined) return several(options, context);
    const { serve: open } = await import('../../server/index.ts');
    const { proto, protoPath, config } = options;
    const types = proto === undefined ? undefined : await loadSchemas({ proto, protoPath });
    const sources = { config, env: outside.env };
    const server = await open(givenOptions(options), { sources, logTo: outside.stderr, signal, types });
    try {
      const [grpc] = server.grpc;
      const [http] = server.http;
      terminal.tell(
        { event: 'ready', grpc, http },
        [
          terminal.paint('bold', 'Signalbox is ready. Ctrl-C ends it.'),
          ...server.grpc.map((address) => `  gRPC  ${address}`),
          ...server.http.map((url) => `  HTTP  ${url}`),
        ].join('\n'),
      );
      await untilAborted(signal);
      terminal.note('draining: running commands may end, devices are told to come back; Ctrl-C again to stop now');
      terminal.tell({ event: 'draining' });
    } finally {
      await server.close();
    }
    terminal.tell({ event: 'closed' }, 'closed');
    return exitCodes.ok;
  },
};
