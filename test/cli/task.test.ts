import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { root } from '../support/sources.ts';
import { runCli, runHere, signalbox } from './signalbox.ts';

/** A hub with the tasks of the examples, in a process of its own. */
async function hub(): Promise<Record<string, string>> {
  const data = mkdtempSync(path.join(tmpdir(), 'signalbox-task-'));
  onTestFinished(() => rmSync(data, { recursive: true, force: true }));
  const tasks = path.join(root, 'examples/tasks/definitions.ts');
  const program = signalbox([
    'serve',
    '--no-grpc',
    '--http',
    '127.0.0.1:0',
    '--data',
    data,
    '--tasks',
    tasks,
    '--json',
  ]);
  const [, url] = await program.says(/"http":"([^"]+)"/);
  return { SIGNALBOX_URL: url! };
}

test('runs a task and tells its events to the end; the exit code says how it ended', async () => {
  const env = await hub();
  const ok = await runHere(['task', 'run', 'three-steps', '{"name":"cli"}', '--json'], env);
  expect(ok.code).toBe(0);
  expect(ok.json().map(({ type }) => type)).toEqual([
    ...['task.started', 'log', 'progress', 'progress', 'progress'],
    'done',
  ]);
  const bad = await runHere(['task', 'run', 'random-number', '{"min":5,"max":1}'], env);
  expect(bad).toMatchObject({ code: 2, stderr: expect.stringContaining('input.min: min has to be at most max') });
  const unknown = await runHere(['task', 'run', 'nothing'], env);
  expect(unknown).toMatchObject({ code: 1, stderr: expect.stringContaining('reverse-string, three-steps') });
});

test('lists, shows, watches and cancels runs', async () => {
  const env = await hub();
  const started = await runHere(['task', 'run', 'three-steps', '--delay', '1h', '--tag', 'x', '--detach'], env);
  const id = started.stdout.trim();
  expect((await runHere(['task', 'list', '--state', 'queued', '--json'], env)).json()).toMatchObject([
    { id, tags: ['x'] },
  ]);
  expect((await runHere(['task', 'list'], env)).stdout).toContain(`${id}  three-steps  queued`);
  expect((await runHere(['task', 'cancel', id, '--reason', 'too late', '--json'], env)).json()).toMatchObject([
    { state: 'cancelled', cancelReason: 'too late' },
  ]);
  expect((await runHere(['task', 'show', id], env)).stdout).toMatch(/state +cancelled/);
  const watched = await runHere(['task', 'watch', id], env);
  expect(watched).toMatchObject({ code: 1, stdout: expect.stringContaining('too late') });
  expect((await runHere(['task', 'types', '--json'], env)).json()).toContainEqual({
    id: 'count-primes',
    isolation: 'thread',
  });
});

test('a module without tasks, and a gateway that is not there, are named', async () => {
  const empty = path.join(root, 'examples/teller.ts');
  const served = await runCli([
    'serve',
    '--no-grpc',
    '--http',
    '127.0.0.1:0',
    '--data',
    ':memory:',
    '--tasks',
    'no.ts',
  ]);
  expect(served).toMatchObject({ code: 2, stderr: expect.stringContaining('tasks: no.ts is not there') });
  const other = await runCli(['serve', '--no-grpc', '--http', '127.0.0.1:0', '--data', ':memory:', '--tasks', empty]);
  expect(other).toMatchObject({ code: 2, stderr: expect.stringContaining('exports no task') });
  const nowhere = await runHere(['task', 'list', '--url', 'http://127.0.0.1:1']);
  expect(nowhere).toMatchObject({ code: 1, stderr: expect.stringContaining('http://127.0.0.1:1 cannot be reached') });
  expect(await runHere(['task', 'show'])).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('the id of a run'),
  });
});

test('users are added, listed and removed, and log in', async () => {
  const data = mkdtempSync(path.join(tmpdir(), 'signalbox-users-'));
  onTestFinished(() => rmSync(data, { recursive: true, force: true }));
  const added = await runCli(['users', 'add', 'ann', '--data', data], { input: 'correct horse\n' });
  expect(added).toMatchObject({ code: 0, stdout: 'ann can log in: tasks:run events:read\n' });
  const program = signalbox(['serve', '--no-grpc', '--http', '127.0.0.1:0', '--data', data, '--auth', 'jwt', '--json']);
  const [, url] = await program.says(/"http":"([^"]+)"/);
  const post = async (at: string, body: object) => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(url + at, { method: 'POST', headers, body: JSON.stringify(body) });
    return { status: response.status, body: (await response.json()) as Record<string, string> };
  };
  const login = await post('/v1/login', { user: 'ann', password: 'correct horse' });
  expect(login).toMatchObject({ status: 200, body: { user: 'ann', scopes: ['tasks:run', 'events:read'] } });
  expect((await post('/v1/login', { user: 'ann', password: 'wrong' })).status).toBe(401);
  const { refreshToken } = login.body;
  expect((await post('/v1/login/refresh', { refreshToken })).status).toBe(200);
  const mine = await fetch(`${url}/v1/tasks`, { headers: { authorization: `Bearer ${login.body.token}` } });
  expect(await mine.json()).toEqual({ runs: [] });
  expect((await runHere(['users', 'list', '--data', data, '--json'])).json()).toMatchObject([{ name: 'ann' }]);
  expect((await runHere(['users', 'remove', 'ann', '--data', data])).code).toBe(0);
  expect((await post('/v1/login/refresh', { refreshToken })).status).toBe(401);
});
