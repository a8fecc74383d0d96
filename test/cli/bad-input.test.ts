import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { exitCodes } from '../../src/cli/exit-codes.ts';
import { connectDevice, type Device } from '../../src/device/index.ts';
import { type SignalboxServer, serve } from '../../src/server/index.ts';
import { costsNothing } from '../support/footprint.ts';
import { type HealthyPeers, healthyPeers, livenessMs } from '../support/healthy.ts';
import { Program } from '../support/program.ts';
import { root } from '../support/sources.ts';
import { runCli, runHere, signalbox } from './signalbox.ts';

// A hub with peers who do nothing wrong, and a device whose every text wants to move the cursor.
const folder = mkdtempSync(join(tmpdir(), 'signalbox-cli-bad-'));
const evil = '\u001b[2J\u001b]0;title\u0007\u009b31m\r\u202eback';
const jwt = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl';
let server: SignalboxServer;
let grpc: string;
let peers: HealthyPeers;
let device: Device;

beforeAll(async () => {
  server = await serve(
    { grpc: '127.0.0.1:0', http: false, data: ':memory:', preset: 'test', livenessMs },
    { sources: { env: {}, cwd: folder } },
  );
  grpc = server.grpc[0]!;
  peers = await healthyPeers({ address: grpc });
  device = await connectDevice({ address: grpc, clientId: 'evil', agent: evil });
  await device.emit('said', { text: evil });
});
afterAll(async () => {
  await device.close({ timeoutMs: 0 });
  await peers[Symbol.asyncDispose]();
  await server.close();
  rmSync(folder, { recursive: true });
});

const secretAdvice = (name: string, instead: string): string =>
  `--${name} takes no secret: every user of this machine can read command lines; ${instead}`;
const tokenAdvice =
  'there is a token among the arguments: every user of this machine can read command lines; use --token-file <file> or SIGNALBOX_TOKEN';

/** A command line, its exit code, and exactly what it says of the error, with --json as `code: message`. */
const catalogue: [string[], keyof typeof exitCodes, string][] = [
  [['sned'], 'usage', "invalid-argument: unknown command 'sned'\n(Did you mean send?)"],
  [['send'], 'usage', "invalid-argument: missing required argument 'clientId'"],
  [['clients', '--conected'], 'usage', "invalid-argument: unknown option '--conected'\n(Did you mean --connected?)"],
  [
    ['send', 'healthy', 'start', '{"rpm": 1'],
    'usage',
    "invalid-argument: the argument is not JSON: Expected ',' or '}' after property value in JSON at position 9 (line 1 column 10)",
  ],
  [
    ['send', 'healthy', 'start', '@none.json'],
    'usage',
    "invalid-argument: cannot read none.json: ENOENT: no such file or directory, open 'none.json'",
  ],
  [['send', 'healthy', 'strat', '{}'], 'usage', 'invalid-argument: no method "strat" is known (did you mean "start"?)'],
  [
    ['send', 'healthy', 'start', '{"rmp": 1}'],
    'usage',
    'invalid-argument: unknown key "rmp": signalbox.example.v1.StartRequest has no such field (did you mean "rpm"?)',
  ],
  [
    ['send', 'healthy', 'start', '{}', '--timeout', 'soon'],
    'usage',
    "invalid-argument: option '--timeout <time>' argument 'soon' is invalid. write seconds, or 500ms, 10s, 5m, 2h, 1d.",
  ],
  [
    ['send', '../x', 'stop'],
    'usage',
    'invalid-argument: client id "../x" is not valid: 1 to 128 of A-Z a-z 0-9 . _ : @ -, beginning with a letter or digit',
  ],
  [
    ['send', 'a\u001b[2Jb', 'stop'],
    'usage',
    'invalid-argument: client id "a\\u001b[2Jb" is not valid: 1 to 128 of A-Z a-z 0-9 . _ : @ -, beginning with a letter or digit',
  ],
  [['send', 'nobody', 'stop'], 'clientOffline', 'client-offline: client nobody has no live stream'],
  [['command', 'none'], 'failed', 'not-found: command "none" is not known'],
  [['cancel', 'none'], 'failed', 'not-found: command "none" is not known'],
  [['watch', 'a b'], 'usage', 'invalid-argument: "a b" is not a channel name'],
  [['watch', 'fleet', '--since', 'x'], 'usage', 'invalid-argument: cursor "x" is not one of ours'],
  [
    ['watch', 'fleet', '--since', 'x', '--from-start'],
    'usage',
    'invalid-argument: --since and --from-start exclude each other',
  ],
  [
    ['clients', '--label', 'north'],
    'usage',
    "invalid-argument: option '--label <key=value>' argument 'north' is invalid. write key=value.",
  ],
  [
    ['simulate', '--devices', '0'],
    'usage',
    "invalid-argument: option '--devices <n>' argument '0' is invalid. write a whole number from 1.",
  ],
  [
    ['send', 'healthy', 'stop', '--token', 'hunter2'],
    'usage',
    `invalid-argument: ${secretAdvice('token', 'use --token-file <file> or the variable SIGNALBOX_TOKEN')}`,
  ],
  [
    ['clients', '--password=hunter2'],
    'usage',
    `invalid-argument: ${secretAdvice('password', 'Signalbox has none; use --token-file <file> or SIGNALBOX_TOKEN')}`,
  ],
  [['send', jwt, 'stop'], 'usage', `invalid-argument: ${tokenAdvice}`],
  [['send', 'healthy', 'stop', '--token-file', jwt], 'usage', `invalid-argument: ${tokenAdvice}`],
  [
    ['send', 'healthy', 'stop', '--token-file', 'none'],
    'usage',
    "invalid-argument: cannot read none: ENOENT: no such file or directory, open 'none'",
  ],
];

async function answer(args: string[]): Promise<string> {
  const { code, stdout, stderr, json } = await runHere([
    ...args,
    '--json',
    ...(args.includes('--grpc') ? [] : ['--grpc', grpc]),
  ]);
  expect(stderr).toBe('');
  expect(stdout).not.toMatch(/hunter2|eyJ|\p{Cc}(?<!\n)/u);
  const { error } = json().at(-1) as { error: { code: string; message: string } };
  return `${code} ${error.code}: ${error.message}`;
}

test.each(catalogue)('%j ends with %s', async (args, code, says) => {
  expect(await answer(args)).toBe(`${exitCodes[code]} ${says}`);
  await peers.beat();
});

test('every exit code is documented, in the help and in docs/cli.md', async () => {
  const { stdout } = await runHere(['--help']);
  const docs = readFileSync(join(root, 'docs/cli.md'), 'utf8');
  for (const code of Object.values(exitCodes)) {
    expect(stdout).toMatch(new RegExp(`Exit codes:.*\\b${code} `));
    expect(docs).toMatch(new RegExp(`\\b${code}\\b`));
  }
});

test.each([[['watch', 'client.evil', '--from-start', '--count', '2']], [['clients']]])(
  'escape codes in what %j shows are shown, not obeyed',
  async (args) => {
    for (const json of [[], ['--json']]) {
      const { code, stdout, stderr } = await runHere([...args, ...json, '--grpc', grpc]);
      expect(code).toBe(0);
      expect(`${stdout}${stderr}`.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\u202e]/u);
    }
    await peers.beat();
  },
);

test('a pipe that is closed ends it quietly, and nobody else notices', async () => {
  const main = join(root, 'src/cli/main.ts');
  const line = `'${process.execPath}' '${main}' watch client.healthy --json --grpc ${grpc} | head -n 1`;
  const piped = new Program('sh', ['-c', line]);
  const beating = (async () => {
    while (!piped.stdout.includes('\n')) await peers.beat();
  })();
  await beating;
  const ended = piped.ended();
  await peers.beat();
  await peers.beat();
  await ended;
  expect(piped.stderr).toBe('');
});

test('without a terminal there are no colours and nothing is asked', async () => {
  const { code, stdout, stderr } = await runCli(['send', 'nobody', 'stop', '--grpc', grpc]);
  expect({ code, stdout, stderr }).toEqual({
    code: 3,
    stdout: '',
    stderr: 'error: client nobody has no live stream\n',
  });
});

test('the second Ctrl-C ends it, when nobody answers the first', async () => {
  const codec = { type: 'test.Slow', encode: () => new Uint8Array(), decode: () => 0 };
  device.handle(codec, () => new Promise(() => undefined));
  writeFileSync(join(folder, 'slow.proto'), 'syntax = "proto3"; package test; message Slow {}');
  const args = ['send', 'evil', '{}', '--type', 'test.Slow', '--proto', join(folder, 'slow.proto'), '--json'];
  const sending = signalbox([...args, '--grpc', grpc]);
  await sending.says(/"delivered"|"started"/);
  sending.signal('SIGINT');
  const again = setInterval(() => sending.signal('SIGINT'), 700);
  onTestFinished(() => clearInterval(again));
  expect(await sending.ended()).toBe(1);
  await peers.beat();
});

test('a port in use is named, and ends serve with 1', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  onTestFinished(() => void other.close());
  const { port } = other.address() as { port: number };
  const args = ['serve', '--grpc', `127.0.0.1:${port}`, '--no-http', '--data', ':memory:'];
  const { code, stderr } = await runCli(args);
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: `error: cannot listen on 127.0.0.1:${port}: the address is in use by another process\n`,
  });
});

test('the whole of it, again and again, costs nothing that stays', async () => {
  await costsNothing(
    async () => {
      for (const [args] of catalogue) await answer(args);
    },
    { times: 8 },
  );
  await peers.beat();
});
