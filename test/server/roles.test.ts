import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { resolveOptions, type ServeOptions, serve } from '../../src/server/index.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer } from '../support/redis.ts';
import { root } from '../support/sources.ts';

const definitions = path.join(root, 'examples/tasks/definitions.ts');

test.each([
  [{ role: 'worker', tasks: ['a.ts'] }, 'needs redis'],
  [{ taskEngine: 'bullmq' }, 'needs redis'],
  [{ taskEngine: 'rabbit' as never }, 'taskEngine'],
  [{ role: 'worker', redis: 'redis://localhost', tasks: ['a.ts'], grpc: '127.0.0.1:0' }, 'serves no gRPC'],
] as [ServeOptions, string][])('a role or engine that cannot be is refused: %j', (options, message) => {
  expect(() => resolveOptions(options)).toThrow(message);
});

describeNeeding('redis', 'hubs and workers apart', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.close());

  test.each(['own', 'bullmq'] as const)(
    'a run that is triggered at a hub is done by a worker, watched at the hub, and looked up at both (engine: %s)',
    async (taskEngine) => {
      const open = async (options: ServeOptions) => {
        const redisPrefix = `roles-${taskEngine}`;
        const common = {
          redis: server.url,
          redisPrefix,
          taskEngine,
          tasks: [definitions],
          logLevel: 'silent',
          preset: 'test',
        } as const;
        const opened = await serve({ ...common, ...options }, { sources: { env: {}, cwd: tmpdir() } });
        onTestFinished(() => opened.close());
        return opened;
      };
      const hub = await open({ role: 'hub', grpc: '127.0.0.1:0', http: '127.0.0.1:0', node: 'hub' });
      const headers = { 'content-type': 'application/json', accept: 'text/event-stream' };
      const body = JSON.stringify({ task: 'three-steps', input: { name: 'apart' } });
      const answer = await fetch(`${hub.http[0]}/v1/tasks`, { method: 'POST', headers, body });
      const id = answer.headers.get('location')!.split('/').at(-1)!;
      expect(await hub.tasks.snapshot(id)).toMatchObject({ state: 'queued' });
      const worker = await open({ role: 'worker', node: 'worker' });
      const names = [...(await answer.text()).matchAll(/^event: (.*)$/gm)].map(([, name]) => name);
      expect(names).toEqual(['task.started', 'log', 'progress', 'progress', 'progress', 'done']);
      expect(await hub.tasks.snapshot(id)).toMatchObject({ state: 'succeeded' });
      expect(await worker.tasks.snapshot(id)).toMatchObject({ state: 'succeeded' });
      expect([worker.grpc, worker.http]).toEqual([[], []]);
    },
  );
});
