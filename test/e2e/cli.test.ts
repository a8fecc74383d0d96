import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { CommandRejected, connectDevice } from '../../src/device/index.ts';
import { PumpServiceDefinition, simulatedPump } from '../../src/example/index.ts';
import { jsonLines, runCli, signalbox } from '../cli/signalbox.ts';
import { root } from '../support/sources.ts';

// What goes wrong between processes: hubs that restart, devices that hang or lie, signals that come twice. The plain
// round trips of each verb are in test/cli.

function scratch(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'signalbox-cli-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function hub(args: readonly string[] = ['--data', ':memory:'], env: Record<string, string> = {}) {
  const listening = args.includes('--grpc') ? [] : ['--grpc', '127.0.0.1:0', '--http', '127.0.0.1:0'];
  const program = signalbox(['serve', '--json', ...listening, ...args], { env, cwd: scratch() });
  const ready = JSON.parse((await program.says(/^\{"event":"ready".*$/m))[0]) as { grpc: string; http?: string };
  return { program, ...ready };
}

async function pump(clientId: string, grpc: string, ...args: string[]) {
  const program = signalbox(['device', clientId, '--grpc', grpc, '--json', ...args]);
  await program.says(/"event":"connected"/);
  return program;
}

test('hub, device and caller meet on Unix sockets; over HTTP too', async () => {
  const folder = scratch();
  const grpc = `unix://${path.join(folder, 'grpc.sock')}`;
  const http = `unix://${path.join(folder, 'http.sock')}`;
  const ready = await hub(['--grpc', grpc, '--http', http, '--data', path.join(folder, 'data')]);
  expect(ready.grpc).toBe(grpc);
  expect(ready.http).toContain('http.sock');
  await pump('pump-7', grpc);
  const sent = await runCli(['send', 'pump-7', 'stop', '--grpc', grpc, '--json']);
  expect(sent.code).toBe(0);
  expect(sent.json().at(-1)).toMatchObject({ state: 'succeeded' });
  ready.program.signal('SIGTERM');
  expect(await ready.program.ended()).toBe(0);
  const gone = await runCli(['clients', '--grpc', grpc]);
  expect(gone.code).toBe(1);
  expect(gone.stderr).toContain('grpc.sock');
});

test('a hub whose output nobody reads any more goes on, and drains when it is told to end', async () => {
  const main = path.join(root, 'src/cli/main.ts');
  const args = [main, 'serve', '--grpc', '127.0.0.1:0', '--no-http', '--data', ':memory:', '--json'];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const { grpc } = JSON.parse(String(line)) as { grpc: string };
  child.stdout.destroy();
  child.stderr.destroy();
  const ended = once(child, 'exit');

  const device = await pump('pump-7', grpc);
  expect((await runCli(['send', 'pump-7', 'stop', '--grpc', grpc])).code).toBe(0);
  child.kill('SIGTERM');

  expect(await ended).toEqual([0, null]);
  await device.says(/"event":"waiting","reason":"[^"]*draining/);
});

test('under npm, which passes on a Ctrl-C that the terminal has sent already, two are one', async () => {
  const { program } = await hub(undefined, { npm_lifecycle_event: 'signalbox' });
  program.signal('SIGINT');
  program.signal('SIGINT');
  expect(await program.ended()).toBe(0);
  expect(jsonLines(program.stdout).at(-1)).toEqual({ event: 'closed' });
});

test('two sends with one idempotency key are one command', async () => {
  const { grpc } = await hub();
  await pump('pump-7', grpc);
  const args = ['send', 'pump-7', 'start', '{"rpm": 10}', '--idempotency-key', 'once', '--grpc', grpc, '--json'];
  const [first, second] = [await runCli(args), await runCli(args)];
  expect(second.code).toBe(0);
  expect(second.json().at(-1)?.commandId).toBe(first.json().at(-1)?.commandId);
});

test('a second Ctrl-C ends at once, when the device does not answer the first', async () => {
  const { grpc } = await hub();
  const device = await pump('pump-7', grpc);
  const sender = signalbox(['send', 'pump-7', 'tailLog', '{"lines":10000,"intervalMs":50}', '--grpc', grpc, '--json']);
  await sender.says(/"item":\{"number":1/);
  device.signal('SIGSTOP');
  sender.signal('SIGINT');
  const again = setInterval(() => sender.signal('SIGINT'), 50);
  expect(await sender.ended()).toBe(1);
  clearInterval(again);
  expect(jsonLines(sender.stdout).at(-1)).not.toMatchObject({ state: 'cancelled' });
});

test('watch goes on after a cursor', async () => {
  const { grpc } = await hub();
  await pump('pump-7', grpc);
  const env = { SIGNALBOX_ADDRESS: grpc };
  await runCli(['send', 'pump-7', 'stop'], { env });
  const args = ['watch', 'fleet', 'client.pump-7', '--json'];
  const all = await runCli([...args, '--from-start', '--count', '4'], { env });
  expect(all.code).toBe(0);
  const [first, ...rest] = all.json();
  const since = await runCli([...args, '--since', String(first?.cursor), '--count', '3'], { env });
  expect(since.json()).toEqual(rest);
});

test('watch survives a restart of the hub, and tells nothing twice', async () => {
  const data = scratch();
  const first = await hub(['--data', data]);
  const watcher = signalbox(['watch', 'client.pump-7', '--from-start', '--json', '--grpc', first.grpc]);
  const device = await pump('pump-7', first.grpc);
  await watcher.says(/"type":"client\.connected"/);
  first.program.signal('SIGTERM');
  expect(await first.program.ended()).toBe(0);

  await hub(['--data', data, '--grpc', first.grpc, '--no-http']);

  await watcher.says(/"type":"client\.connected"[\s\S]*"type":"client\.connected"/);
  device.signal('SIGTERM');
  watcher.signal('SIGINT');
  expect(await watcher.ended()).toBe(0);
  const told = jsonLines(watcher.stdout).map(({ type, epoch, seq }) => `${type} ${epoch}/${seq}`);
  expect(told).toEqual([...new Set(told)]);
});

test('control and escape codes from the network are shown, not obeyed', async () => {
  const { grpc } = await hub();
  await using device = await connectDevice({ address: grpc, clientId: 'evil' });
  const { service, close } = simulatedPump({ temperatureEveryMs: 0 });
  onTestFinished(close);
  device.implement(PumpServiceDefinition, {
    ...service,
    async stop() {
      throw new CommandRejected('no', 'red \x1b[31m, title \x1b]0;x\x07, back \r, csi \u009b2J, mirrored \u202e');
    },
  });
  const forPeople = await runCli(['send', 'evil', 'stop', '--grpc', grpc]);
  expect(forPeople.stdout).toContain('\\u{1b}[31m');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  const obeyed = /[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/;
  expect(forPeople.stdout).not.toMatch(obeyed);
  const forPrograms = await runCli(['send', 'evil', 'stop', '--grpc', grpc, '--json']);
  expect(forPrograms.stdout).not.toMatch(obeyed);
  expect(forPrograms.json().at(-1)).toMatchObject({
    error: { message: expect.stringContaining('\u009b2J, mirrored \u202e') },
  });
});

test('a message without a method goes to whoever handles its type; it may come from a file', async () => {
  const { grpc } = await hub();
  const cwd = scratch();
  await using device = await connectDevice({ address: grpc, clientId: 'door-1' });
  const bytes = (type: string) => ({
    type,
    encode: (value: Uint8Array) => value,
    decode: (value: Uint8Array) => value,
  });
  device.handle(bytes('door.v1.Open'), (value) => value, { result: bytes('door.v1.Opened') });
  const text =
    'syntax = "proto3"; package door.v1; message Open { uint32 seconds = 1; } message Opened { uint32 s = 1; }';
  writeFileSync(path.join(cwd, 'door.proto'), text);
  writeFileSync(path.join(cwd, 'request.json'), '{"seconds": 7}');

  const args = ['send', 'door-1', '@request.json', '--type', 'Open', '--proto', 'door.proto', '--grpc', grpc, '--json'];

  expect((await runCli(args, { cwd })).json().at(-1)).toMatchObject({ state: 'succeeded', result: { s: 7 } });
});

test('fleet tells who would be meant, without those that are excluded', async () => {
  const { grpc } = await hub();
  await Promise.all([pump('pump-1', grpc), pump('pump-2', grpc), pump('pump-3', grpc)]);
  const meant = await runCli(['fleet', 'all', '--exclude', 'pump-2', '--dry-run', '--json', '--grpc', grpc]);
  expect(meant.json()).toEqual([{ clientId: 'pump-1' }, { clientId: 'pump-3' }]);
  const nobody = await runCli(['fleet', 'site=nowhere', 'stop', '--json', '--grpc', grpc]);
  expect(nobody.code).toBe(1);
  expect(nobody.json()).toMatchObject([
    { error: { code: 'not-found', message: expect.stringContaining('site=nowhere') } },
  ]);
});
