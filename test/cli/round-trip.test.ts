import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { serve } from '../../src/server/index.ts';
import type { Program } from '../support/program.ts';
import { jsonLines, runCli, signalbox } from './signalbox.ts';

/** A hub and a device, each in a process of its own. */
async function hub(
  args: readonly string[] = ['--data', ':memory:'],
): Promise<{ hub: Program; grpc: string; http: string }> {
  const program = signalbox(['serve', '--grpc', '127.0.0.1:0', '--http', '127.0.0.1:0', '--json', ...args]);
  const [line] = await program.says(/^{"event":"ready".*}$/m);
  const { grpc, http } = JSON.parse(line) as { grpc: string; http: string };
  return { hub: program, grpc, http };
}

async function device(clientId: string, grpc: string, ...args: string[]): Promise<Program> {
  const program = signalbox(['device', clientId, '--grpc', grpc, '--json', ...args]);
  await program.says(/"event":"connected"/);
  return program;
}

describe('three processes', () => {
  let grpc: string;
  let http: string;
  let serving: Program;
  beforeEach(async () => {
    ({ grpc, http, hub: serving } = await hub());
  });
  const cli = (...args: string[]) => runCli([...args, '--grpc', grpc]);

  test('send prints each update, and the result on the last one', async () => {
    await device('pump-7', grpc);
    const { code, json } = await cli('send', 'pump-7', 'start', '{"rpm": 1200}', '--json');
    expect(code).toBe(0);
    const lines = json();
    const id = String(lines[0]?.commandId);
    expect(lines.every((line) => line.commandId === id && line.clientId === 'pump-7')).toBe(true);
    expect(lines[0]).toMatchObject({ state: 'queued' });
    expect(lines.at(-1)).toMatchObject({ state: 'succeeded', result: { rpm: 1200 } });

    const known = await cli('command', id, '--json');
    expect(known.json()).toMatchObject([
      { commandId: id, state: 'succeeded', type: 'signalbox.example.v1.PumpService/Start', whenOffline: 'fail' },
    ]);
  });

  test('exit codes tell rejection, absence and timeout apart', async () => {
    await device('pump-7', grpc);
    const rejected = await cli('send', 'pump-7', 'start', '{"rpm": 9999}', '--json');
    expect(rejected.code).toBe(1);
    expect(rejected.json().at(-1)).toMatchObject({ state: 'rejected', error: { code: 'rpm-out-of-range' } });

    const away = await cli('send', 'pump-8', 'stop', '--json');
    expect(away.code).toBe(3);
    expect(away.json().at(-1)).toMatchObject({ clientId: 'pump-8', error: { code: 'client-offline' } });

    const slow = await cli(
      'send',
      'pump-7',
      'tailLog',
      '{"lines": 1000, "intervalMs": 60000}',
      '--timeout',
      '1s',
      '--json',
    );
    expect(slow.code).toBe(4);
  });

  test('a stream of items is told as progress, in order; the request may come from stdin', async () => {
    await device('pump-7', grpc);
    const args = ['send', 'pump-7', 'PumpService/TailLog', '-', '--grpc', grpc, '--json'];
    const { code, json } = await runCli(args, { input: '{"lines": 3}' });
    expect(code).toBe(0);
    const items = json().flatMap((line) =>
      line.progress ? [(line.progress as { item?: { number: number } }).item] : [],
    );
    expect(items.map((item) => item?.number)).toEqual([1, 2, 3]);
  });

  test('a queued command for a device that is away is kept, ends send with 0, and runs when it comes', async () => {
    const { code, json } = await cli('send', 'pump-9', 'start', '{"rpm": 5}', '--queue', '--ttl', '1h', '--json');
    expect(code).toBe(0);
    const id = String(json()[0]?.commandId);
    const watching = signalbox(['command', id, '--watch', '--json', '--grpc', grpc]);
    await watching.says(/"state":"queued"/);
    await device('pump-9', grpc);
    expect(await watching.ended()).toBe(0);
    expect(jsonLines(watching.stdout).at(-1)).toMatchObject({ state: 'succeeded', result: { rpm: 5 } });
  });

  test('the first Ctrl-C on send cancels the command and tells its end', async () => {
    await device('pump-7', grpc);
    const args = ['send', 'pump-7', 'tailLog', '{"lines": 10000, "intervalMs": 60000}', '--json', '--grpc', grpc];
    const sending = signalbox(args);
    await sending.says(/"item"/);
    sending.signal('SIGINT');
    expect(await sending.ended()).toBe(1);
    expect(jsonLines(sending.stdout).at(-1)).toMatchObject({ state: 'cancelled' });
  });

  test('cancel stops what another process has sent', async () => {
    await device('pump-7', grpc);
    const args = ['send', 'pump-7', 'tailLog', '{"lines": 10000, "intervalMs": 60000}', '--json', '--grpc', grpc];
    const sending = signalbox(args);
    const [, id] = await sending.says(/"commandId":"([^"]+)".*"item"/);
    const { code, json } = await cli('cancel', id!, '--reason', 'enough', '--json');
    expect(code).toBe(0);
    // Nothing of what was before the cancel.
    expect(json()).toMatchObject([{ commandId: id, state: 'cancelled' }]);
    expect(await sending.ended()).toBe(1);
    expect((await cli('cancel', 'no-such-command', '--json')).code).toBe(1);
  });

  test('clients, watch and fleet see devices by their labels', async () => {
    const watching = signalbox(['watch', 'fleet', '--from-start', '--count', '2', '--json', '--grpc', grpc]);
    await device('pump-1', grpc, '--label', 'site=north');
    await device('pump-2', grpc, '--label', 'site=south');
    expect(await watching.ended()).toBe(0);
    expect(jsonLines(watching.stdout).map((line) => [line.channel, line.type])).toEqual([
      ['fleet', 'client.connected'],
      ['fleet', 'client.connected'],
    ]);
    const listed = await cli('clients', '--label', 'site=north', '--json');
    expect(listed.json()).toMatchObject([{ id: 'pump-1', connected: true, labels: { site: 'north' } }]);
    expect((await cli('clients')).stdout).toMatch(/^CLIENT .*\npump-1 .*connected.*\npump-2 /);

    const fleet = await cli('fleet', 'site=south,', 'stop', '--json').catch(() => undefined);
    expect(fleet?.code).toBe(2);
    const all = await cli('fleet', 'all', 'start', '{"rpm": 10}', '--json');
    expect(all.code).toBe(0);
    expect(all.json().slice(0, 2)).toEqual(
      expect.arrayContaining([
        { clientId: 'pump-1', outcome: 'succeeded', result: { rpm: 10 } },
        { clientId: 'pump-2', outcome: 'succeeded', result: { rpm: 10 } },
      ]),
    );
    const mixed = await cli('fleet', 'pump-1,pump-3', 'stop', '--json');
    expect(mixed.code).toBe(3);
    expect(mixed.json()).toContainEqual(expect.objectContaining({ clientId: 'pump-3', outcome: 'offline' }));
  });

  test('SIGTERM drains: devices are told, and it ends with 0', async () => {
    const pump = await device('pump-7', grpc);
    serving.signal('SIGTERM');
    expect(await serving.ended()).toBe(0);
    expect(jsonLines(serving.stdout).map((line) => line.event)).toEqual(['ready', 'draining', 'closed']);
    await pump.says(/"event":"waiting"/);
    pump.signal('SIGTERM');
    expect(await pump.ended()).toBe(0);
  });

  test('a second SIGTERM ends it at once, with 1', async () => {
    await device('pump-7', grpc);
    const sending = signalbox([
      ...['send', 'pump-7', 'tailLog', '{"lines": 10000, "intervalMs": 60000}', '--json', '--grpc', grpc],
    ]);
    await sending.says(/"item"/);
    serving.signal('SIGTERM');
    await serving.says(/"draining"/);
    expect((await fetch(`${http}/ready`)).status).toBe(503);
    serving.signal('SIGTERM');
    expect(await serving.ended()).toBe(1);
  });

  test('a pipe that is closed early ends watch quietly', async () => {
    const main = join(import.meta.dirname, '../../src/cli/main.ts');
    const { Program: Shell } = await import('../support/program.ts');
    const line = `'${process.execPath}' '${main}' watch client.pump-7 --json --grpc ${grpc} | head -n 1`;
    const piped = new Shell('sh', ['-c', line]);
    const pump = await connectDevice({ address: grpc, clientId: 'pump-7' });
    onTestFinished(() => pump.close());
    const ticking = setInterval(() => void pump.emit('tick', {}), 50);
    onTestFinished(() => clearInterval(ticking));
    await piped.says(/"seq"/);
    await piped.ended();
    expect(piped.stdout.trim().split('\n')).toHaveLength(1);
    expect(piped.stderr).toBe('');
  });
});

test('types that are not built in come from --proto, and wrong keys of theirs are named', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'signalbox-cli-proto-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const proto = join(folder, 'door.proto');
  writeFileSync(
    proto,
    `syntax = "proto3"; package acme.v1;
     message OpenRequest { uint32 seconds = 1; } message OpenResponse { bool is_open = 1; }
     service DoorService { rpc Open(OpenRequest) returns (OpenResponse); }`,
  );
  const { grpc } = await hub();
  const door = await connectDevice({ address: grpc, clientId: 'door-1' });
  onTestFinished(() => door.close());
  const codec = { encode: (value: Uint8Array) => value, decode: (bytes: Uint8Array) => bytes };
  door.handle({ type: 'acme.v1.DoorService/Open', ...codec }, () => new Uint8Array([8, 1]), {
    result: { type: 'acme.v1.OpenResponse', ...codec },
  });
  const send = (...args: string[]) => runCli(['send', 'door-1', ...args, '--json', '--grpc', grpc]);
  const known = await send('Open', '{"seconds": 5}', '--proto', proto);
  expect(known.json().at(-1)).toMatchObject({ state: 'succeeded', result: { isOpen: true } });
  const wrong = await send('Open', '{"secnds": 5}', '--proto', proto);
  expect(wrong.code).toBe(2);
  expect(wrong.stdout).toContain('did you mean \\"seconds\\"?');
  const unknown = await send('Open', '{"seconds": 5}');
  expect(unknown.code).toBe(2);
  const byType = await send('acme.v1.DoorService/Open', '{}', '--proto', proto, '--type', 'OpenRequest');
  expect(byType.code).toBe(0);
});

test('escape codes in names from the network are shown and not obeyed', async () => {
  const server = await serve(
    { grpc: '127.0.0.1:0', http: false, data: ':memory:', preset: 'test' },
    { sources: { env: {}, cwd: tmpdir() } },
  );
  onTestFinished(() => server.close());
  const odd = '\u001b[2Jboo\u009b31m';
  const device = await connectDevice({ address: server.grpc[0]!, clientId: 'pump-7', agent: odd });
  onTestFinished(() => device.close());
  await device.emit('odd.event', { text: odd });
  for (const args of [['watch', 'client.pump-7', '--from-start', '--count', '2'], ['clients']])
    for (const json of [[], ['--json']]) {
      const { stdout, code } = await runCli([...args, ...json, '--grpc', server.grpc[0]!]);
      expect(code).toBe(0);
      expect(stdout.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
    }
});

test('tokens come from a file or the environment', async () => {
  const data = mkdtempSync(join(tmpdir(), 'signalbox-cli-auth-'));
  onTestFinished(() => rmSync(data, { recursive: true }));
  const { grpc } = await hub(['--auth', 'jwt', '--data', data]);
  const mint = async (...args: string[]) => (await runCli(['token', '--data', data, ...args])).stdout.trim();
  const token = await mint('--subject', 'ops', '--scope', 'clients:read');
  const tokenFile = join(data, 'ops.token');
  writeFileSync(tokenFile, `${token}\n`);
  const clients = ['clients', '--json', '--grpc', grpc];
  const without = await runCli(clients);
  expect(without.json()).toMatchObject([{ error: { code: 'unauthenticated' } }]);
  expect(without.code).toBe(1);
  expect((await runCli([...clients, '--token-file', tokenFile])).code).toBe(0);
  expect((await runCli(clients, { env: { SIGNALBOX_TOKEN: token } })).code).toBe(0);
  const narrow = await runCli(['send', 'pump-7', 'stop', '--json', '--grpc', grpc], {
    env: { SIGNALBOX_TOKEN: token },
  });
  expect(narrow.json().at(-1)).toMatchObject({ error: { code: 'permission-denied' } });
});

test('colours are for those who ask, and not with NO_COLOR', async () => {
  const { grpc } = await hub();
  const args = ['send', 'pump-8', 'stop', '--grpc', grpc];
  expect((await runCli(args, { env: { FORCE_COLOR: '1' } })).stderr).toContain('\u001b[31m');
  expect((await runCli(args, { env: { FORCE_COLOR: '1', NO_COLOR: '1' } })).stderr).not.toContain('\u001b');
  expect((await runCli(args)).stderr).not.toContain('\u001b');
});

test('--embedded runs the hub in the process that sends', async () => {
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  const grpc = `127.0.0.1:${port}`;
  const args = ['--embedded', '--wait', '25s', '--data', ':memory:', '--json', '--grpc', grpc];
  const sending = signalbox(['send', 'pump-7', 'start', '{"rpm": 5}', ...args]);
  await sending.says(/"event":"ready"/);
  await device('pump-7', grpc);
  expect(await sending.ended()).toBe(0);
  expect(jsonLines(sending.stdout).at(-1)).toMatchObject({ state: 'succeeded', result: { rpm: 5 } });
});

test('a port in use ends serve with 1 and names it', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  onTestFinished(() => void other.close());
  const { port } = other.address() as { port: number };
  const { code, json } = await runCli([
    'serve',
    '--grpc',
    `127.0.0.1:${port}`,
    '--no-http',
    '--data',
    ':memory:',
    '--json',
  ]);
  expect(code).toBe(1);
  expect(json()).toMatchObject([{ error: { code: 'unavailable', message: expect.stringContaining(String(port)) } }]);
});

test('simulate brings devices, sends them commands, and says how that went', async () => {
  const { grpc } = await hub();
  const { code, json } = await runCli([
    ...['simulate', '--devices', '3', '--rate', '20', '--duration', '2s', '--json', '--grpc', grpc],
  ]);
  expect(code).toBe(0);
  expect(json()[0]).toMatchObject({ event: 'ready', devices: 3 });
  expect(json().at(-1)).toMatchObject({ event: 'ended', failed: 0 });
});
