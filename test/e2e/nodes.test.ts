import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { runCli, signalbox } from '../cli/signalbox.ts';
import { RedisServer } from '../support/redis.ts';

interface Started {
  readonly node: string;
  readonly pid: number;
  readonly grpc: string;
  readonly http: string;
}

test('three nodes are tried out with one command: any of them answers for all, also once one was killed', async () => {
  const redis = await RedisServer.start();
  onTestFinished(() => redis.close());
  const args = ['serve', '--redis', redis.url, '--nodes', '3', '--json', '--log-level', 'error'];
  const program = signalbox([...args, '--grpc', '127.0.0.1:0', '--http', '127.0.0.1:0']);
  const { nodes } = JSON.parse((await program.says(/^\{"event":"ready".*$/m))[0]) as { nodes: Started[] };
  expect(nodes.map(({ node }) => node)).toEqual(['node-1', 'node-2', 'node-3']);
  const [first, second, third] = nodes as [Started, Started, Started];

  const listed = await runCli(['nodes', '--grpc', second.grpc, '--json']);
  expect(listed.json()).toEqual(
    nodes.map(({ node, grpc }) =>
      expect.objectContaining({ id: node, address: grpc, isDraining: false, isAnswering: node === 'node-2' }),
    ),
  );
  expect((await runCli(['nodes', '--grpc', first.grpc])).stdout).toMatch(/node-3 +127\.0\.0\.1:\d+ +0 +ready/);

  // A device that knows two of them, a caller that knows another one.
  const device = signalbox(['device', 'pump-7', '--grpc', `${first.grpc},${second.grpc}`, '--json']);
  const connected = JSON.parse((await device.says(/^.*"event":"connected".*$/m))[0]) as { node: string };
  const holder = nodes.find(({ node }) => node === connected.node)!;
  const send = () => runCli(['send', 'pump-7', 'stop', '--grpc', third.grpc, '--wait', '20s', '--json']);
  expect((await send()).json().at(-1)).toMatchObject({ state: 'succeeded' });
  process.kill(holder.pid, 'SIGKILL');
  expect((await send()).json().at(-1)).toMatchObject({ state: 'succeeded' });
  const shown = await runCli(['clients', '--grpc', third.grpc, '--json']);
  expect(shown.json()).toEqual([expect.objectContaining({ id: 'pump-7', connected: true })]);

  program.signal('SIGTERM');
  expect(await program.ended()).toBe(0);
});

test('a node that cannot start says why, whatever names the Redis', async () => {
  const weak = await RedisServer.start({ settings: { appendonly: 'no' } });
  onTestFinished(() => weak.close());
  const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-nodes-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const config = path.join(folder, 'config.json');
  writeFileSync(config, JSON.stringify({ redis: weak.url, grpc: '127.0.0.1:0', http: '127.0.0.1:0' }));
  const { code, stderr } = await runCli(['serve', '--nodes', '2', '--config', config]);
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /^error: node node-1 did not start: Redis at 127.0.0.1:\d+ keeps no log.*CONFIG SET appendonly yes/m,
  );
});

test('nodes without a Redis to share are refused', async () => {
  const { code, stderr } = await runCli(['serve', '--nodes', '3']);
  expect(code).toBe(2);
  expect(stderr).toContain('--redis');
});
