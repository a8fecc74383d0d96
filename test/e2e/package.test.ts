import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { root } from '../support/sources.ts';

const run = promisify(execFile);

/** A backend, a device and a hub in one program, as a newcomer writes it. */
const program = `
import { HubError } from 'signalbox';
import { connectDevice } from 'signalbox/device';
import { serve } from 'signalbox/server';
import { watch } from 'signalbox/browser';
import { faultProxy, simulate, virtualClock } from 'signalbox/testing';

await using server = await serve({ grpc: '127.0.0.1:0', http: '127.0.0.1:0', data: ':memory:', logLevel: 'silent' });
const device = await connectDevice({ address: server.grpc[0], clientId: 'pump-1' });
const clients = await (await fetch(server.http[0] + '/v1/clients')).json();
const page = await fetch(server.http[0] + '/');
const script = await fetch(server.http[0] + '/browser/page/page.js');
console.log(JSON.stringify({
  clients: clients.clients.map(({ id, connected }) => ({ id, connected })),
  page: page.status,
  script: script.headers.get('content-type'),
  exports: [HubError, watch, faultProxy, simulate, virtualClock].map((each) => typeof each),
}));
await device.close();
`;

/** How whoever installs it tests devices and callers of their own: every tool of `signalbox/testing` at work. */
const tests = `
import { commandClient, StreamingCommandClient } from 'signalbox';
import { connectDevice } from 'signalbox/device';
import { PumpServiceDefinition } from 'signalbox/example';
import { serve } from 'signalbox/server';
import { fakeTransport, faultProxy, scriptedDevice, simulate, virtualClock } from 'signalbox/testing';

await using server = await serve({ grpc: '127.0.0.1:0', http: false, data: ':memory:', preset: 'test' });

const scripted = scriptedDevice(server.hub);
await scripted.hello({ clientId: 'scripted' });
const answer = commandClient(PumpServiceDefinition, { clientId: 'scripted', transport: server.hub }).stop({});
scripted.end((await scripted.command()).id, 'failed', 'jammed', 'the shaft does not turn');
const told = await answer.catch((error) => error.deviceCode);

const fake = fakeTransport((sent) => sent.end('rejected', { code: 'locked', message: 'no' }));
const refused = await commandClient(PumpServiceDefinition, { clientId: 'x', transport: fake }).stop({}).catch((error) => error.code);

const road = await faultProxy({ target: server.grpc[0] });
const device = await connectDevice({ address: road.address, clientId: 'far', backoff: { minMs: 1, maxMs: 10 } });
const before = device.state.epoch;
const back = new Promise((resolve) => device.onStateChange((state) => state.kind === 'connected' && resolve()));
road.cutAll();
await back;
const counts = road.counts.cut;
await device.close();
await road.close();

const clock = virtualClock();
let days = 0;
clock.after(86_400_000, () => days++);
await clock.advance(86_400_000);

const codec = { type: 't', encode: (text) => new TextEncoder().encode(text), decode: (bytes) => new TextDecoder().decode(bytes) };
const storm = async (seed) => {
  const done = [];
  const { trace } = await simulate({
    seed, devices: 1, cutEveryMs: 300, killHubEveryMs: 2000,
    boot: (each) => each.handle(codec, (value) => void done.push(value)),
    async run({ transport, sleep, calm }) {
      const client = new StreamingCommandClient({ clientId: 'device-0', codec, transport });
      for (let i = 0; i < 10; i++) {
        void client.send('order ' + i, { whenOffline: 'queue', ttlMs: 600_000 });
        await sleep(400);
      }
      calm();
      await client.request('last', { whenOffline: 'queue', ttlMs: 600_000 });
    },
  });
  return { done, trace };
};
const [one, again, other] = [await storm(7), await storm(7), await storm(8)];
const isSame = (a, b) => JSON.stringify(a.trace) === JSON.stringify(b.trace);
console.log(JSON.stringify({
  told, refused, days, cuts: counts, wasConnected: before > 0,
  runs: new Set(one.done).size, repeats: one.done.length - new Set(one.done).size,
  sameSeed: isSame(one, again), otherSeed: isSame(one, other),
}));
`;

const consumer = `
import { HubError, type HubErrorCode } from 'signalbox';
import { connectDevice, type Device } from 'signalbox/device';
import { serve, type ServeOptions, type SignalboxServer } from 'signalbox/server';
import { watch, type Watch } from 'signalbox/browser';
import { archivedLog, openSearchArchive } from 'signalbox/opensearch';
import { openSqlite } from 'signalbox/sqlite';
import { openBullMqEngine, openRedis } from 'signalbox/redis';
import { initStreaming, SSEEmitter, sseResponse, sseResponseWithLease, directSseResponse, sendResponse } from 'signalbox/server';
import { defineTask, StreamContext, type TaskHandle, Tasks } from 'signalbox/tasks';
import { type FaultProxy, faultProxy, type VirtualClock, virtualClock } from 'signalbox/testing';

const options: ServeOptions = { data: ':memory:' };
export const open = (): Promise<SignalboxServer> => serve(options);
export const connect = (): Promise<Device> => connectDevice({ address: '127.0.0.1:1', clientId: 'pump-1' });
export const look = (): Watch => watch({ channels: ['fleet'], onEvent: ({ type }) => type.length, onGap: () => undefined });
export const road = (): Promise<FaultProxy> => faultProxy({ target: '127.0.0.1:1' });
export const clock: VirtualClock = virtualClock();
export const code = (error: HubError): HubErrorCode => error.code;
export const made = [archivedLog, openSearchArchive, openSqlite, openBullMqEngine, openRedis, initStreaming, SSEEmitter, sseResponse];
export const more = [sseResponseWithLease, directSseResponse, sendResponse, Tasks, StreamContext, defineTask];
export const handle = async (given: TaskHandle<{ rpm: number }>): Promise<number> => (await given.result()).rpm;
// @ts-expect-error a device needs an id
export const wrong = (): Promise<Device> => connectDevice({ address: '127.0.0.1:1' });
`;

describe('the packed package', () => {
  let folder: string;
  const inFolder = (file: string, args: readonly string[]) => run(file, args, { cwd: folder, timeout: 120_000 });

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'signalbox-package-'));
    // Packing builds, unless the run has just done so.
    if (process.env.SIGNALBOX_BUILT !== '1')
      execFileSync(process.execPath, ['scripts/build.ts'], { cwd: root, stdio: 'inherit' });
    const pack = ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder];
    await run('npm', pack, { cwd: root });
    const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'))!;
    writeFileSync(
      path.join(folder, 'package.json'),
      JSON.stringify({ name: 'consumer', private: true, type: 'module' }),
    );
    const flags = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error', '--omit=dev'];
    await inFolder('npm', ['install', ...flags, `./${tarball}`]);
  }, 240_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('is imported by its subpaths and serves, connects and shows its page', async () => {
    writeFileSync(path.join(folder, 'program.mjs'), program);
    const { stdout } = await inFolder(process.execPath, ['program.mjs']);
    expect(JSON.parse(stdout)).toEqual({
      clients: [{ id: 'pump-1', connected: true }],
      page: 200,
      script: 'text/javascript; charset=utf-8',
      exports: Array(5).fill('function'),
    });
  });

  test('brings what others test their devices and callers with: proxy, fakes, clock and simulator', async () => {
    writeFileSync(path.join(folder, 'tests.mjs'), tests);
    const { stdout } = await inFolder(process.execPath, ['tests.mjs']);
    expect(JSON.parse(stdout)).toEqual({
      told: 'jammed',
      refused: 'command-rejected',
      days: 1,
      cuts: 1,
      wasConnected: true,
      runs: 11,
      repeats: 0,
      sameSeed: true,
      otherSeed: false,
    });
  });

  test('brings its command line', async () => {
    const { stdout } = await inFolder('npx', ['--no-install', 'signalbox', '--help']);
    expect(stdout).toMatch(/Usage: signalbox/);
  });

  test('brings types that a strict program can be checked against', async () => {
    mkdirSync(path.join(folder, 'src'));
    writeFileSync(path.join(folder, 'src/consumer.ts'), consumer);
    const options = ['--noEmit', '--strict', '--target', 'es2024', '--module', 'nodenext', '--types', 'node'];
    const types = [
      '--typeRoots',
      path.join(root, 'node_modules/@types'),
      '--lib',
      'es2024,esnext.disposable',
      // Of declarations that the package brings, too: none may need types that whoever installs it does not get with it.
      '--skipLibCheck',
      'false',
    ];
    const tsc = path.join(root, 'node_modules/.bin/tsc');
    const { stdout } = await inFolder(tsc, [...options, ...types, 'src/consumer.ts']).catch((error) => error);
    expect(stdout).toBe('');
  });

  test('holds what is needed and nothing of our own workshop', async () => {
    const files = readdirSync(path.join(folder, 'node_modules/signalbox'), { recursive: true, encoding: 'utf8' });
    expect(files).toContain('proto/signalbox/v1/device.proto');
    expect(files.filter((file) => /(^|\/)(test|scripts|examples|src|bench)\/|binpb$|tsconfig/.test(file))).toEqual([]);
    expect(statSync(path.join(folder, 'node_modules/signalbox/dist/cli/main.js')).mode & 0o111).not.toBe(0);
  });
});
