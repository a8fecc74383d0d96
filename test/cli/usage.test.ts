import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { verbs } from '../../src/cli/verbs/index.ts';
import { runCli, runHere } from './signalbox.ts';

let cwd: string;
beforeAll(() => {
  cwd = mkdtempSync(join(tmpdir(), 'signalbox-cli-'));
});
afterAll(() => rmSync(cwd, { recursive: true }));

const nowhere = ['--grpc', '127.0.0.1:1'];

describe('help', () => {
  test('lists every verb and the exit codes', async () => {
    const { code, stdout } = await runCli(['--help']);
    expect(code).toBe(0);
    for (const verb of verbs) expect(stdout).toContain(` ${verb.declare().name()}`);
    expect(stdout).toContain('Exit codes: 0 ok, 1 failed, 2 usage, 3 client offline, 4 timed out');
  });

  test.each(verbs.map((verb) => verb.declare().name()))('%s tells its options, --json and examples', async (name) => {
    const { code, stdout } = await runHere([name, '--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('--json');
    expect(stdout).toContain(`Examples:\n  signalbox ${name}`);
  });
});

describe('a wrong command line ends with 2 and says what is wrong', () => {
  test.each([
    [['sned'], /unknown command 'sned'[\s\S]*send/],
    [['send'], /missing required argument 'clientId'/],
    [['send', 'pump-7', 'start', '{"rpm": 1', ...nowhere], /the argument is not JSON/],
    [['send', 'pump-7', 'start', '@none.json', ...nowhere], /cannot read none\.json/],
    [['send', 'pump-7', 'start', '{"rmp": 1}', ...nowhere], /unknown key "rmp".*did you mean "rpm"/],
    [['send', 'pump-7', 'strat', '{}', ...nowhere], /no method "strat" is known \(did you mean "start"\?\)/],
    [['send', 'pump-7', 'start', '{}', '--timeout', 'soon', ...nowhere], /500ms, 10s, 5m/],
    [['send', 'pump-7', 'start', '{}', '--proto', 'none.proto', ...nowhere], /no such file: none\.proto/],
    [['send', '../x', 'stop', ...nowhere], /client id/],
    [['send', 'pump-7', 'stop', '--grpc', 'nonsense'], /nonsense/],
    [['fleet', 'a,site=north', 'stop', ...nowhere], /ids or labels, not both/],
    [['serve', '--grcp', '127.0.0.1:0'], /--grpc/],
    [['serve', '--grpc', '8080'], /grpc: "8080" is not an address/],
    [['serve', '--grpc', '0.0.0.0:0', '--data', ':memory:'], /authentication is off.*--auth jwt/],
    [['serve', '--http', 'hub.invalid:0', '--data', ':memory:'], /authentication is off/],
    [['serve', '--tls-cert', 'a.pem', '--tls-key', 'b.pem', '--data', ':memory:'], /a\.pem cannot be read/],
    [['token'], /--subject/],
    [['token', '--subject', 'ann', '--scope', 'everything'], /no scope "everything"/],
    [['watch', 'fleet', '--since', 'x', '--from-start', ...nowhere], /exclude each other/],
    [['simulate', '--devices', '0', ...nowhere], /whole number from 1/],
  ])('%j', async (args, message) => {
    const { code, stderr, stdout } = await runHere(args);
    expect(stderr).toMatch(message);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  });

  test('and with --json the error is an object', async () => {
    for (const args of [
      ['send', '--json'],
      ['send', 'p', 'strat', '--json', ...nowhere],
      ['serve', '--json', '--grcp'],
    ]) {
      const { code, json, stderr } = await runHere(args);
      expect({ code, stderr }).toEqual({ code: 2, stderr: '' });
      expect(json()).toEqual([{ error: { code: 'invalid-argument', message: expect.any(String) } }]);
    }
  });

  test('a wrong config file too', async () => {
    const folder = mkdtempSync(join(cwd, 'config-'));
    writeFileSync(join(folder, 'signalbox.config.json'), '{"grcp": "127.0.0.1:0"}');
    const { code, stderr } = await runCli(['serve'], { cwd: folder });
    expect(stderr).toContain('unknown option "grcp" in signalbox.config.json (did you mean "grpc"?)');
    expect(code).toBe(2);
  });
});

describe('secrets among the arguments', () => {
  const jwt = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl';

  test.each([
    [['send', 'pump-7', 'stop', '--token', 'hunter2']],
    [['send', 'pump-7', 'stop', '--token=hunter2']],
    [['clients', '--password', 'hunter2']],
    [['serve', '--secret', 'hunter2']],
    [['send', 'pump-7', 'stop', '--token-file', jwt]],
    [['send', jwt, 'stop']],
    [['serve', '--redis', 'redis://:hunter2@127.0.0.1:1']],
    [['serve', '--redis=redis+sentinel://ann:hunter2@127.0.0.1:1/hub', '--nodes', '3']],
  ])('%j are refused and not repeated', async (args) => {
    const { code, stdout, stderr } = await runHere(args);
    expect(code).toBe(2);
    expect(stderr).toMatch(
      /every user of this machine can read command lines; .*(--token-file|--auth-secret-file|SIGNALBOX_REDIS)/,
    );
    expect(stdout + stderr).not.toMatch(/hunter2|eyJ/);
  });
});

describe('without a hub', () => {
  test('a hub that is not there is named, and it ends with 1', async () => {
    const { code, stderr } = await runHere(['clients', ...nowhere]);
    expect(stderr).toMatch(/127\.0\.0\.1:1.*is the hub running there/);
    expect(code).toBe(1);
  });

  test('token makes the secret once, for its owner alone, and signs with it', async () => {
    const data = join(cwd, 'data');
    const args = ['token', '--client-id', 'pump-7', '--ttl', '1h', '--data', data];
    const first = await runCli([...args, '--json'], { cwd });
    const [token] = first.json();
    expect(first.code).toBe(0);
    expect(token).toMatchObject({ subject: 'pump-7', scopes: ['device'] });
    expect(statSync(join(data, 'jwt.secret')).mode & 0o777).toBe(0o600);
    const second = await runCli(args, { cwd });
    expect(second.stdout).toMatch(/^eyJ[\w-]+\.[\w-]+\.[\w-]+\n$/);
  });

  test('doctor tells of a directory that is not there, and ends with 1', async () => {
    const { code, json } = await runCli(['doctor', '--data', join(cwd, 'none'), '--json'], { cwd });
    expect(code).toBe(1);
    expect(json().at(-1)).toMatchObject({ event: 'report', isHealthy: false });
  });

  test('bench tells its figures, the machine and the method', async () => {
    const { code, json } = await runHere(['bench', '--count', '50', '--json']);
    expect(code).toBe(0);
    expect(json()).toEqual([
      expect.objectContaining({
        count: 50,
        p50Ms: expect.any(Number),
        p99Ms: expect.any(Number),
        machine: expect.stringContaining('Node'),
        method: expect.any(String),
      }),
    ]);
  });
});
