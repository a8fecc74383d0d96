import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { formatAddress, isLocal, parseAddress } from '../../src/server/addresses.ts';
import { optionNames } from '../../src/server/check-options.ts';
import { loadOptions, variableOf } from '../../src/server/load-options.ts';
import { presets } from '../../src/server/presets.ts';
import { resolveOptions } from '../../src/server/resolve-options.ts';

describe('addresses', () => {
  test.each(['127.0.0.1:0', 'localhost:8080', '[::1]:50051', 'unix:///tmp/hub.sock'])('%s is one', (text) => {
    expect(formatAddress(parseAddress(text))).toBe(text);
  });

  test.each([
    '',
    '8080',
    'localhost',
    'a:b',
    'host:99999',
    '::1:80',
    '[nope]:1',
    'unix:/tmp/x',
    'unix://x',
    'http://a:1',
    'a b:1',
  ])('%j is refused', (text) => expect(() => parseAddress(text)).toThrow(/is not an address: /));

  test.each([
    ['127.0.0.1:1', true],
    ['127.8.9.1:1', true],
    ['[::1]:1', true],
    ['[::ffff:127.0.0.1]:1', true],
    ['localhost:1', true],
    ['unix:///x', true],
    ['0.0.0.0:1', false],
    ['[::]:1', false],
    ['10.1.2.3:1', false],
    ['[::ffff:10.0.0.1]:1', false],
    ['does-not-resolve.invalid:1', false],
  ])('%s is local: %s', async (text, local) => {
    expect(await isLocal(parseAddress(text))).toBe(local);
  });
});

describe('options', () => {
  test('have defaults that are safe', () => {
    expect(resolveOptions()).toMatchObject({
      grpc: ['127.0.0.1:50051'],
      http: ['127.0.0.1:8080'],
      data: '.signalbox',
      auth: 'none',
      ...presets.production,
    });
  });

  test('of a preset stand unless a value is given beside it', () => {
    expect(resolveOptions({ preset: 'lowLatency', window: 9 })).toMatchObject({
      ...presets.lowLatency,
      window: 9,
    });
  });

  test.each(Object.keys(presets))('preset %s is valid', (preset) => {
    expect(() => resolveOptions({ preset: preset as keyof typeof presets })).not.toThrow();
  });

  test('a secret or a key set means tokens', () => {
    expect(resolveOptions({ authSecretFile: 'x' }).auth).toBe('jwt');
    expect(resolveOptions({ authJwks: 'https://issuer.example/jwks' }).auth).toBe('jwt');
  });

  test.each([
    [{ htpp: '127.0.0.1:1' }, 'unknown option "htpp" in the options (did you mean "http"?)'],
    [{ waiting_commands: 3 }, 'did you mean "waitingCommands"?'],
    [JSON.parse('{"__proto__": 1}'), 'unknown option "__proto__"'],
    [{ grpc: 'nowhere' }, 'grpc: "nowhere" is not an address'],
    [{ grpc: ['127.0.0.1:0', 'x'] }, 'grpc: "x" is not an address'],
    [{ grpc: 5 }, 'grpc: "5" is not an address'],
    [{ grpc: false, http: false }, 'nothing to serve'],
    [{ window: 0 }, 'window: '],
    [{ window: 1.5 }, 'window: '],
    [{ heartbeatMs: 1e12 }, 'heartbeatMs: '],
    [{ auth: 'basic' }, 'auth: '],
    [{ auth: 'none', authSecretFile: 'x' }, 'use auth "jwt"'],
    [{ auth: 'mtls' }, 'needs tlsCert, tlsKey and tlsCa'],
    [{ auth: 'jwt', data: ':memory:' }, 'nowhere to keep its secret'],
    [{ authJwks: 'http://issuer.example/jwks' }, 'authJwks: must be an https URL'],
    [{ authJwks: 'https://a.example/jwks', authSecretFile: 'x' }, 'exclude each other'],
    [{ tlsCert: 'a.pem' }, 'tlsCert and tlsKey belong together'],
    [{ preset: 'fast' }, 'preset: '],
    [{ node: 'a b' }, 'node: must be 1 to 64 of'],
    [null, 'the options: '],
  ])('%j is refused by name', (options, message) => {
    expect(() => resolveOptions(options as never)).toThrow(message);
  });
});

describe('sources', () => {
  let cwd: string;
  beforeEach(() => {
    cwd = mkdtempSync(join(tmpdir(), 'signalbox-options-'));
  });
  afterEach(() => rmSync(cwd, { recursive: true }));
  const file = (name: string, content: string) => writeFileSync(join(cwd, name), content);

  test('code wins over the environment, that over the file, that over the default', async () => {
    file('signalbox.config.json', '{"grpc": "127.0.0.1:1", "http": "127.0.0.1:2", "data": "here", "window": 7}');
    const options = await loadOptions({
      cwd,
      env: { SIGNALBOX_GRPC: '127.0.0.1:10,unix:///tmp/a', SIGNALBOX_HTTP: '127.0.0.1:20', SIGNALBOX_PORT: 'tcp://x' },
      overrides: { grpc: '127.0.0.1:100', data: undefined as never },
    });
    expect(options).toMatchObject({
      grpc: ['127.0.0.1:100'],
      http: ['127.0.0.1:20'],
      data: join(cwd, 'here'),
      window: 7,
    });
  });

  test('a TypeScript file works', async () => {
    file('signalbox.config.ts', "const preset: string = 'test';\nexport default { preset, data: ':memory:' };\n");
    expect(await loadOptions({ cwd, env: {} })).toMatchObject({ preset: 'test', data: ':memory:', logLevel: 'silent' });
  });

  test.each([
    ['{"grcp": "127.0.0.1:1"}', 'unknown option "grcp" in signalbox.config.json (did you mean "grpc"?)'],
    ['{"window": "9"}', 'signalbox.config.json: window: '],
    ['{', 'cannot read signalbox.config.json: '],
    ['[]', 'signalbox.config.json: '],
  ])('a file with %s is refused by name', async (content, message) => {
    file('signalbox.config.json', content);
    await expect(loadOptions({ cwd, env: {} })).rejects.toThrow(message);
  });

  test('a file that was asked for has to exist', async () => {
    await expect(loadOptions({ cwd, env: { SIGNALBOX_CONFIG: 'other.json' } })).rejects.toThrow(
      `no such config file: ${join(cwd, 'other.json')}`,
    );
  });

  test('a wrong variable is named', async () => {
    await expect(loadOptions({ cwd, env: { SIGNALBOX_WINDOW: 'many' } })).rejects.toThrow('SIGNALBOX_WINDOW: window: ');
    await expect(loadOptions({ cwd, env: { SIGNALBOX_HTTP: '80' } })).rejects.toThrow('SIGNALBOX_HTTP: http: "80"');
  });

  test('every option has a variable of its own', async () => {
    expect(new Set(optionNames.map(variableOf)).size).toBe(optionNames.length);
    expect((await loadOptions({ cwd, env: { SIGNALBOX_MAX_CONNECTIONS: '7' } })).maxConnections).toBe(7);
    expect(variableOf('drainTimeoutMs')).toBe('SIGNALBOX_DRAIN_TIMEOUT_MS');
  });
});
