import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { commandClient } from '../../src/index.ts';
import { PumpServiceDefinition } from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { type SignalboxServer, serve } from '../../src/server/index.ts';
import { root } from '../support/sources.ts';
import { runExample, startExample } from './run.ts';

const folder = path.join(root, 'examples');

async function startHub(): Promise<SignalboxServer> {
  const server = await serve({ grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'silent' });
  onTestFinished(() => server.close());
  return server;
}

test('every example begins with a line that says what it shows', () => {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  const wrong = files
    .filter((file) => /\.(ts|py|html)$/.test(file) && !file.startsWith('signalbox'))
    .filter((file) => {
      const lines = readFileSync(path.join(folder, file), 'utf8').split('\n');
      const first = lines[lines[0] === '<!doctype html>' ? 1 : 0]!;
      return !/^(\/\/ |# |<!-- |""")\S.{20,}/.test(first);
    });
  expect(wrong).toEqual([]);
});

test('examples import the package by its name, and all that it exports is there for them', () => {
  const read = (file: string) =>
    JSON.parse(readFileSync(path.join(root, file), 'utf8')) as { name: string; exports: Record<string, string> };
  const [own, real] = [read('examples/package.json'), read('package.json')];
  const subpaths = ({ exports }: typeof own) => Object.keys(exports).filter((subpath) => subpath !== './package.json');
  expect(own.name).toBe(real.name);
  expect(subpaths(own).sort()).toEqual(subpaths(real).sort());
});

test('device.ts: a device runs commands, refuses one, and leaves on Ctrl-C', async () => {
  const server = await startHub();
  const device = startExample('device.ts', 'pump-9', server.grpc[0]!);
  await device.says(/pump-9 is connected/);
  const pump = commandClient(PumpServiceDefinition, { clientId: 'pump-9', transport: server.hub });
  expect(await pump.start({ rpm: 1200 })).toEqual({ rpm: 1200 });
  await expect(pump.start({ rpm: 9000 })).rejects.toMatchObject({ code: 'command-rejected' });
  await device.says(/Start rejected/);
  device.signal('SIGINT');
  expect(await device.ended(), device.stderr).toBe(0);
  expect(device.stdout).toContain('pump-9 has left');
});

test('backend-rpc.ts: a backend commands a device from another process', async () => {
  const server = await startHub();
  const device = startExample('device.ts', 'pump-9', server.grpc[0]!);
  await device.says(/pump-9 is connected/);
  expect(await runExample('backend-rpc.ts', 'pump-9', server.grpc[0]!)).toEqual([
    'pump-9 runs at 1200 rpm',
    'log 1: pump-9: 1200 rpm',
    'log 2: pump-9: 1200 rpm',
    'log 3: pump-9: 1200 rpm',
    ...['stop: queued', 'stop: sent', 'stop: delivered', 'stop: succeeded'],
  ]);
});

test('backend-rpc.ts: a device that is away is told by code, and ends it with 1', async () => {
  const server = await startHub();
  const backend = startExample('backend-rpc.ts', 'pump-9', server.grpc[0]!);
  expect(await backend.ended()).toBe(1);
  expect(backend.stderr).toContain('client-offline: client pump-9 has no live stream');
});

test('backend-in-process.ts: the hub in the backend’s own process', async () => {
  const lines = await runExample('backend-in-process.ts');
  expect(lines[0]).toContain('queued');
  expect(lines).toContain('progress spinning up: 900 rpm');
  expect(lines.map((line) => line.trim())).toContain('succeeded');
  expect(lines.at(-1)).toBe("pump-7 true { site: 'north' }");
});

test('cli-script.ts: a registered service is found without an address', async () => {
  expect(await runExample('cli-script.ts', '700')).toEqual(['pump-7 runs at 700 rpm']);
});

test('pump-client.ts: a subclass with its own verbs, the same on both roads', async () => {
  const lines = await runExample('pump-client.ts');
  expect(lines.filter((line) => line.includes('value: { rpm: 1200 }'))).toHaveLength(2);
  expect(lines.filter((line) => line.startsWith('restart') && line.includes('rpm: 900'))).toHaveLength(2);
  expect(lines.filter((line) => line.includes('maxBar: 6'))).toHaveLength(2);
  expect(lines.filter((line) => line === 'start command-rejected rpm-out-of-range')).toHaveLength(2);
});

test('fleet.ts: batch start, partial config update and batch stop, with a threshold', async () => {
  const lines = await runExample('fleet.ts');
  expect(lines.slice(0, 7).sort()).toEqual([1, 2, 4, 5, 6, 7, 8].map((n) => `start pump-${n} succeeded 1200`));
  expect(lines[7]).toBe('config { succeeded: 7 }');
  expect(lines[8]).toMatch(/^start \{ rejected: [2-5], skipped: [2-5] \}$/);
  expect(lines[9]).toBe('stop { succeeded: 7 }');
});

test('hello.ts: hub, device and caller in one program', async () => {
  expect(await runExample('hello.ts')).toEqual([
    'pump-7 runs at 1200 rpm',
    'line 1: all is well',
    'line 2: all is well',
  ]);
});

test('own-codec.ts: commands in a format of one’s own', async () => {
  const [opening, opened] = await runExample('own-codec.ts');
  expect(opening).toBe('opening the front door for 5 s');
  expect(opened).toMatch(/^opened at \d{4}-/);
});

test('queued-config.ts: of several configurations for an absent device the latest wins', async () => {
  const lines = (await runExample('queued-config.ts')).map((line) => line.trim());
  expect(lines.slice(0, 4)).toEqual([
    'config-1000: queued',
    'config-2000: queued',
    'config-3000: queued',
    'pump-7 is connected',
  ]);
  expect(lines).toContain('config-1000: cancelled superseded');
  expect(lines).toContain('config-2000: cancelled superseded');
  expect(lines.at(-1)).toBe('config-3000: succeeded');
});

test('browser/serve.ts: its pages may call the hub, and others may not', async () => {
  const program = startExample('browser/serve.ts');
  const [, origin] = await program.says(/signalbox\/browser: +(http:\S+)\//);
  await program.says(/native EventSource: +http/);
  const page = await (await fetch(`${origin}/`)).text();
  const library = /"(http:[^"]+\/browser\/index\.js)"/.exec(page)![1]!;
  const asked = await fetch(library, { headers: { origin: origin! } });
  expect(asked.headers.get('access-control-allow-origin')).toBe(origin);
  expect(asked.headers.get('content-type')).toContain('javascript');
  const hub = new URL(library).origin;
  const ticket = await fetch(`${hub}/v1/tickets`, { method: 'POST', headers: { origin: origin! } });
  expect(await ticket.json()).toMatchObject({ ticket: expect.any(String) });
  expect((await fetch(library, { headers: { origin: 'http://elsewhere.example' } })).status).toBe(403);
  program.signal('SIGINT');
  expect(await program.ended(), program.stderr).toBe(0);
});

const steps = [
  'hub-started',
  'gateway-started',
  ...['device-connected', 'device-connected', 'device-connected'],
  'in-process-command',
  'rpc-command',
  'queued-command-delivered',
  'streaming-method',
  'cancelled-command',
  'watched-over-sse',
  'drained',
];

test('demo.ts --json: every step of the story is ok, one object a line', async () => {
  const told = (await runExample('demo.ts', '--json')).map((line) => JSON.parse(line) as { step: string; ok: boolean });
  expect(told.map(({ step }) => step)).toEqual(steps);
  expect(told.filter(({ ok }) => !ok)).toEqual([]);
});

test('demo.ts: tells people the same, with progress and without colours in a pipe', async () => {
  const text = (await runExample('demo.ts')).join('\n');
  expect(text).toMatch(/pump-1 +command\.progress +50 % +spinning up: 600 rpm/);
  expect(text.match(/^ok {4}/gm)).toHaveLength(steps.length);
  expect(text).toContain('All of it worked.');
  expect(text).not.toContain('\x1b');
});

test('demo.ts: an unknown argument is refused', async () => {
  const demo = startExample('demo.ts', '--jsn');
  expect(await demo.ended()).toBe(2);
  expect(demo.stderr).toContain('unknown argument --jsn');
});

test('start.ts: runs until Ctrl-C, finds free ports where its own are taken, and drains', async () => {
  const first = startExample('start.ts');
  await first.says(/Now it is your turn/);
  const second = startExample('start.ts');
  const [, page] = await second.says(/page +(http:\S+)\//);
  expect(second.stdout).toContain('Port 50051 is taken: gRPC listens on a free one.');
  expect((await fetch(`${page}/ready`)).status).toBe(200);
  second.signal('SIGINT');
  expect(await second.ended(), second.stderr).toBe(0);
  expect(first.stdout).toContain('ok     pump-2 commanded by RPC from another process');
  first.signal('SIGINT');
  expect(await first.ended(), first.stderr).toBe(0);
  expect(first.stdout).toContain('the hub has drained');
});

test('tasks/three-steps.ts: a task whose worker is closed in the middle goes on with the next one', async () => {
  const lines = await runExample('tasks/three-steps.ts');
  expect(lines[0]).toBe('first:  task.started');
  expect(lines).toContain('first:  progress step 1');
  const second = lines.filter((line) => line.startsWith('second: ')).map((line) => line.slice('second: '.length));
  expect(second.filter((line) => line.startsWith('progress'))).toEqual([
    'progress step 1',
    'progress step 2',
    'progress step 3',
  ]);
  expect(second).toContain('hub.attempt released');
  expect(second).toContain('log deploy goes on after step 1');
  expect(lines.slice(-2)).toEqual(['second: done succeeded', '{"name":"deploy","steps":3}']);
});

test('tasks/push-to-user.ts: results are pushed to the user who asked, and to nobody else', async () => {
  const lines = await runExample('tasks/push-to-user.ts');
  expect(lines.filter((line) => / (succeeded|failed)$/.test(line)).sort()).toEqual([
    'ann: count-primes succeeded',
    'ann: random-number succeeded',
    'bob: reverse-string succeeded',
  ]);
  expect(lines.slice(-3)).toEqual([
    'ann: a die between 1 and 6: true; primes: {"primes":9592}',
    'bob: {"text":"desserts"}',
    "bob asks for ann's run: 404",
  ]);
});

test('streams/deploy.ts: a worker process tells of a deployment through the stream that it was handed', async () => {
  const lines = await runExample('streams/deploy.ts');
  expect(lines.map((line) => line.split(' ')[1])).toEqual([
    'deploy_start',
    ...['log', 'progress', 'deploy_success'],
    ...['log', 'progress', 'deploy_success'],
    'done',
  ]);
  expect(lines.every((line) => line.startsWith('shop '))).toBe(true);
});

test('streams/tokens.ts: a reload in the middle of an answer goes on where it was', async () => {
  const lines = await runExample('streams/tokens.ts');
  expect(lines[0]).toMatch(/^before the reload: A gap is never silent/);
  expect(lines[2]).toMatch(/^whole: true/);
});

test('tasks/rollout.ts: a fleet rollout goes on after its hub was killed, and stops at its threshold', async () => {
  const lines = await runExample('tasks/rollout.ts');
  const of = (name: string) => lines.filter((line) => line.startsWith(name)).map((line) => line.slice(name.length + 2));
  expect(of('first').slice(0, 3)).toEqual([
    'listens at 127.0.0.1:<port>',
    'another one: resource-exhausted',
    'batch pump-1 pump-2',
  ]);
  const second = of('second');
  expect(second).toContain('attempt 2: worker-lost');
  // What a checkpoint says is done is not done again.
  const batches = second.filter((line) => line.startsWith('batch'));
  expect([batches[0], batches.at(-1)]).toEqual(['batch pump-1 pump-2', 'batch pump-5 pump-6']);
  expect(new Set(batches).size).toBe(batches.length);
  expect(second.slice(-2)).toEqual([
    'done pump-1 pump-2 pump-3 pump-4 pump-5 pump-6',
    'of task rollout failed: aborted: nobody-1, nobody-2 did not take it (invalid-argument)',
  ]);
});
