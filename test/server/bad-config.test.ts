import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { toHubError } from '../../src/errors.ts';
import { type ServeOptions, type SignalboxServer, serve } from '../../src/server/index.ts';
import { costsNothing } from '../support/footprint.ts';
import { type HealthyPeers, healthyPeers, livenessMs } from '../support/healthy.ts';

// A hub that works, in the same process as those that must not begin: what they had opened by then is closed again.
let working: SignalboxServer;
let peers: HealthyPeers;
let other: Server;
const folder = mkdtempSync(join(tmpdir(), 'signalbox-bad-config-'));
const at = (name: string): string => join(folder, name);

beforeAll(async () => {
  working = await serve(
    { grpc: '127.0.0.1:0', http: '127.0.0.1:0', data: at('working'), preset: 'test', livenessMs },
    { sources: { env: {}, cwd: folder } },
  );
  peers = await healthyPeers({ address: working.grpc[0]! });
  other = createServer().listen(at('taken.sock'));
  await new Promise((resolve) => other.once('listening', resolve));
  makeFiles();
});
afterAll(async () => {
  await peers[Symbol.asyncDispose]();
  await working.close();
  other.close();
  rmSync(folder, { recursive: true });
});

function makeFiles(): void {
  const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'ignore', cwd: folder });
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-subj', '/CN=hub.test'];
  for (const name of ['good', 'second'])
    openssl('req', '-x509', ...ec, '-days', '2', '-keyout', `${name}.key`, '-out', `${name}.pem`);
  // Of the past and of the future: only `openssl ca` takes any dates.
  openssl('req', ...ec, '-keyout', 'dated.key', '-out', 'dated.csr');
  const ca =
    '[ca]\ndefault_ca=x\n[x]\ndatabase=index\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nnew_certs_dir=.\n[p]\n';
  writeFileSync(at('ca.cnf'), `${ca}commonName=supplied\n`);
  for (const [name, from, to] of [
    ['expired', '200101000000Z', '210101000000Z'],
    ['early', '490101000000Z', '491231000000Z'],
  ] as const) {
    writeFileSync(at('index'), '');
    const dates = ['-startdate', from, '-enddate', to, '-keyfile', 'dated.key', '-in', 'dated.csr'];
    openssl('ca', '-batch', '-selfsign', '-notext', '-config', 'ca.cnf', ...dates, '-out', `${name}.pem`);
  }
  writeFileSync(at('text.pem'), 'hello');
  writeFileSync(at('short'), 'changeme\n');
  writeFileSync(at('default'), 'change-me-change-me-change-me-change-me\n');
  writeFileSync(at('same'), `${'0'.repeat(64)}\n`);
  mkdirSync(at('open'));
  writeFileSync(at('open/jwt.secret'), 'b7Vt0mJ2q8Xc5nR1yK4wZ6sD3fG9hL0p\n', { mode: 0o644 });
  mkdirSync(at('no-database'));
  writeFileSync(at('no-database/signalbox.db'), 'Dear diary, '.repeat(1000));
  writeFileSync(at('file'), '');
}

const port = (): string => working.grpc[0]!;
const anywhere = { grpc: '127.0.0.1:0', http: '127.0.0.1:0', data: ':memory:', preset: 'test' } as const;
const jwt = { auth: 'jwt', data: undefined } as const;

/** What is set, and exactly what is said of it. `env`: variables instead. `file`: a config file instead. */
const catalogue: {
  name: string;
  options?: () => Record<string, unknown>;
  env?: Record<string, string>;
  file?: string;
  says: string;
}[] = [
  {
    name: 'an unknown key',
    options: () => ({ htpp: '127.0.0.1:1' }),
    says: 'unknown option "htpp" in the options (did you mean "http"?)',
  },
  {
    name: 'an unknown key like none',
    options: () => ({ zzzzzz: 1 }),
    says: 'unknown option "zzzzzz" in the options',
  },
  {
    name: 'an unknown key in a file',
    file: '{"grcp": "127.0.0.1:1"}',
    says: 'unknown option "grcp" in signalbox.config.json (did you mean "grpc"?)',
  },
  {
    name: 'a file that is no JSON',
    file: '{',
    says: "cannot read signalbox.config.json: Expected property name or '}' in JSON at position 1 (line 1 column 2)",
  },
  {
    name: 'a wrong type in a file',
    file: '{"window": "9"}',
    says: 'signalbox.config.json: window: Invalid input: expected number, received string',
  },
  {
    name: 'a variable that is no number',
    env: { SIGNALBOX_WINDOW: 'many' },
    says: 'SIGNALBOX_WINDOW: window: Invalid input: expected number, received NaN',
  },
  {
    name: 'a number out of range',
    options: () => ({ window: 0 }),
    says: 'the options: window: Too small: expected number to be >=1',
  },
  {
    name: 'nothing to serve',
    options: () => ({ grpc: false, http: false }),
    says: 'both grpc and http are off: nothing to serve',
  },
  {
    name: 'an address that is none',
    options: () => ({ grpc: 'nowhere' }),
    says: 'the options: grpc: "nowhere" is not an address: write host:port, [ipv6]:port or unix:///path',
  },
  {
    name: 'an open door',
    options: () => ({ grpc: '0.0.0.0:0' }),
    says: '0.0.0.0:0 can be reached from other machines, and authentication is off. Use --auth jwt (makes a secret in the data directory; `signalbox token` mints from it), --auth-jwks <url> for the tokens of your identity provider, or --auth mtls with --tls-cert, --tls-key and --tls-ca; or listen on 127.0.0.1 only',
  },
  {
    name: 'a port in use for gRPC',
    options: () => ({ grpc: port() }),
    says: 'cannot listen on <taken>: the address is in use by another process',
  },
  {
    name: 'a port in use for HTTP',
    options: () => ({ http: port() }),
    says: 'cannot listen on <taken>: something else listens there',
  },
  {
    name: 'a Unix socket in use',
    options: () => ({ grpc: `unix://${at('taken.sock')}` }),
    says: 'unix://<folder>/taken.sock is in use: another process listens on it',
  },
  {
    name: 'a Unix socket in no directory',
    options: () => ({ grpc: `unix://${at('none/x.sock')}` }),
    says: 'cannot listen on unix://<folder>/none/x.sock: there is no directory <folder>/none',
  },
  {
    name: 'a certificate that is not there',
    options: () => ({ tlsCert: at('none.pem'), tlsKey: at('good.key') }),
    says: "TLS: <folder>/none.pem cannot be read: ENOENT: no such file or directory, open '<folder>/none.pem'",
  },
  {
    name: 'a certificate that is none',
    options: () => ({ tlsCert: at('text.pem'), tlsKey: at('good.key') }),
    says: 'TLS: <folder>/text.pem is not valid PEM: error:0480006C:PEM routines::no start line',
  },
  {
    name: 'a certificate that has expired',
    options: () => ({ tlsCert: at('expired.pem'), tlsKey: at('dated.key') }),
    says: 'TLS: <folder>/expired.pem expired on 2021-01-01T00:00:00.000Z',
  },
  {
    name: 'a certificate of the future',
    options: () => ({ tlsCert: at('early.pem'), tlsKey: at('dated.key') }),
    says: 'TLS: <folder>/early.pem is not valid before 2049-01-01T00:00:00.000Z',
  },
  {
    name: 'the key of another certificate',
    options: () => ({ tlsCert: at('good.pem'), tlsKey: at('second.key') }),
    says: 'TLS: <folder>/second.key is not the key of <folder>/good.pem',
  },
  {
    name: 'a certificate without its key',
    options: () => ({ tlsCert: at('good.pem') }),
    says: 'tlsCert and tlsKey belong together: give both or neither',
  },
  {
    name: 'a short secret',
    options: () => ({ ...jwt, authSecretFile: at('short'), data: at('d1') }),
    says: 'the secret <folder>/short holds 8 bytes, not at least 32',
  },
  {
    name: 'a default secret',
    options: () => ({ ...jwt, authSecretFile: at('default'), data: at('d1') }),
    says: 'the secret <folder>/default is one that anybody can guess: make one with "openssl rand -base64 32"',
  },
  {
    name: 'a secret of one character',
    options: () => ({ ...jwt, authSecretFile: at('same'), data: at('d1') }),
    says: 'the secret <folder>/same is one that anybody can guess: make one with "openssl rand -base64 32"',
  },
  {
    name: 'a secret that is not there',
    options: () => ({ ...jwt, authSecretFile: at('none'), data: at('d1') }),
    says: "the secret <folder>/none cannot be read: ENOENT: no such file or directory, open '<folder>/none'",
  },
  {
    name: 'a secret that others may read',
    options: () => ({ ...jwt, data: at('open') }),
    says: 'the secret <folder>/open/jwt.secret may be read by others (mode 0644): run "chmod 600 <folder>/open/jwt.secret", or delete it to get a new one',
  },
  {
    name: 'keys over plain HTTP',
    options: () => ({ authJwks: 'http://issuer.example/jwks' }),
    says: 'the options: authJwks: must be an https URL',
  },
  {
    name: 'data that is a file',
    options: () => ({ data: at('file') }),
    says: 'data directory <folder>/file is not a directory',
  },
  {
    name: 'data of a hub that runs',
    options: () => ({ data: at('working') }),
    says: 'data directory <folder>/working is in use by another process: stop it, or choose another directory',
  },
  {
    name: 'data that is no database',
    options: () => ({ data: at('no-database') }),
    says: '<folder>/no-database/signalbox.db is not a database: move it away, or choose another data directory',
  },
];

let files = 0;
/** What is said of it. */
async function answer({ options = () => ({}), env = {}, file }: (typeof catalogue)[number]): Promise<string> {
  let cwd = folder;
  if (file !== undefined) {
    cwd = at(`cwd-${files++}`);
    mkdirSync(cwd);
    writeFileSync(join(cwd, 'signalbox.config.json'), file);
  }
  const heard: string[] = [];
  try {
    const server = await serve({ ...anywhere, ...options() } as ServeOptions, {
      sources: { env, cwd },
      observe: ({ kind }) => heard.push(kind),
    });
    await server.close();
    return 'it began';
  } catch (error) {
    expect(heard).not.toContain('server-ready');
    expect(['invalid-argument', 'unavailable']).toContain(toHubError(error).code);
    return toHubError(error).message.replaceAll(folder, '<folder>').replaceAll(port(), '<taken>');
  }
}

test.each(catalogue)('$name is refused by name, and the hub beside it goes on', async (row) => {
  expect(await answer(row)).toBe(row.says);
  await peers.beat();
});

test('the whole of it, again and again, costs nothing that stays', async () => {
  await costsNothing(
    async () => {
      for (const row of catalogue) await answer(row);
    },
    { times: 6, warmUp: 2 },
  );
  await peers.beat();
});
