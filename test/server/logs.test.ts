import { expect, test } from 'vitest';
import { toAll } from '../../src/server/facts.ts';
import { serverLogs } from '../../src/server/logs.ts';

function rig(options: { isTTY?: boolean; level?: 'debug' | 'info' | 'warn' } = {}) {
  const lines: string[] = [];
  const logs = serverLogs({
    level: options.level ?? 'info',
    destination: { isTTY: options.isTTY, write: (line) => lines.push(line) },
  });
  return { ...logs, lines };
}

const refused = (message: string) =>
  ({ kind: 'session-refused', peer: '127.0.0.1:5', reason: 'protocol-error', message }) as const;

test('a fact is one line of JSON where nobody sits', () => {
  const { observe, lines } = rig();
  observe(refused('first frame\nis not hello'));
  expect(lines).toHaveLength(1);
  expect(lines[0]!.trimEnd().split('\n')).toHaveLength(1);
  expect(JSON.parse(lines[0]!)).toMatchObject({ level: 'warn', msg: 'session-refused', reason: 'protocol-error' });
});

test('a level keeps the rest out', () => {
  const { observe, lines } = rig({ level: 'info' });
  observe({ kind: 'ping', tenant: 'default', clientId: 'p', roundTripMs: 1 });
  expect(lines).toEqual([]);
});

test('an internal failure is an error whatever its kind, with its cause', () => {
  const { observe, lines } = rig();
  observe({
    kind: 'grpc-call-failed',
    method: 'm',
    peer: 'p',
    code: 'internal',
    message: 'x',
    cause: new Error('why'),
  });
  expect(JSON.parse(lines[0]!)).toMatchObject({ level: 'error', err: { message: 'why' } });
});

test('secrets that slip into a fact are blanked', () => {
  const { observe, lines } = rig();
  observe({ kind: 'odd', token: 'eyJhbGciOi', inner: { authorization: 'Bearer abc' } } as { kind: string });
  expect(lines[0]).not.toMatch(/eyJ|abc/);
  expect(lines[0]).toContain('[secret]');
});

test('escape codes are shown and not obeyed on a terminal', () => {
  const { observe, lines } = rig({ isTTY: true });
  observe(refused('\u001b[2J\u009b31m\r\nowned'));
  const inner = lines[0]!.slice('\u001b[33m'.length, -'\u001b[0m\n'.length);
  expect(inner).not.toMatch(/\p{Cc}/u);
  expect(inner).toContain('\\u001b[2J\\u{9b}31m\\r\\nowned');
});

test('a listener that throws does not silence the others', async () => {
  const warned = new Promise<Error>((resolve) => process.once('warning', resolve));
  const heard: string[] = [];
  const broken = (): void => {
    throw new Error('broken listener');
  };
  toAll(broken, (fact) => heard.push(fact.kind))({ kind: 'server-closed' });
  expect(heard).toEqual(['server-closed']);
  expect((await warned).message).toContain('broken listener');
});
