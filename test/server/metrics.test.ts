import { afterEach, expect, test } from 'vitest';
import type { ServerFact } from '../../src/server/facts.ts';
import { type Metrics, serverMetrics } from '../../src/server/metrics.ts';

let metrics: Metrics;
afterEach(() => metrics.close());

const who = { tenant: 'default', clientId: 'pump-7' };
const ended = { ...who, commandId: 'c1', type: 'a.B/C', queued: false, afterMs: 12, code: undefined };

test('commands are counted by their end, with how long they took', async () => {
  metrics = serverMetrics({ mailboxDepth: async () => 3, watchers: () => 2 });
  metrics.observe({
    kind: 'command-accepted',
    ...who,
    commandId: 'c1',
    type: 'x',
    queued: true,
    traceparent: undefined,
  });
  metrics.observe({ kind: 'command-delivered', ...who, commandId: 'c1', afterMs: 4 });
  metrics.observe({ kind: 'command-ended', ...ended, state: 'succeeded' });
  const text = await metrics.render();
  expect(text).toContain('signalbox_commands_accepted_total{kind="queued"} 1');
  expect(text).toContain('signalbox_commands_ended_total{kind="live",state="succeeded"} 1');
  expect(text).toContain('signalbox_command_delivered_seconds_bucket{le="0.005"} 1');
  expect(text).toContain('signalbox_command_ended_seconds_sum{kind="live"} 0.012');
  expect(text).toContain('signalbox_mailbox_commands 3');
  expect(text).toContain('signalbox_watchers 2');
  expect(text).toContain('signalbox_event_loop_lag_seconds{quantile="0.99"}');
});

test('sessions are gauged as they come and go', async () => {
  metrics = serverMetrics();
  const opened: ServerFact = { kind: 'session-opened', ...who, epoch: 1, resumed: false, peer: 'p' };
  metrics.observe(opened);
  metrics.observe(opened);
  metrics.observe({ kind: 'session-closed', ...who, epoch: 1, reason: 'lost', message: '', heldMs: 1 });
  expect(await metrics.render()).toContain('signalbox_sessions 1');
});

test('whatever clients send, labels stay few and ids never become one', async () => {
  metrics = serverMetrics();
  const size = async () => (await metrics.render()).split('\n').length;
  const feed = (n: number) => {
    const odd = `evil-${n}` as never;
    metrics.observe({ kind: 'command-ended', ...ended, clientId: odd, state: odd, type: odd, code: odd });
    metrics.observe({ kind: 'command-refused', ...who, commandId: odd, code: odd, message: odd });
    metrics.observe({ kind: 'session-closed', ...who, epoch: n, reason: odd, message: odd, heldMs: 0 });
    metrics.observe({ kind: 'frame-ignored', ...who, code: odd, message: odd });
    metrics.observe({ kind: 'store-failed', operation: odd, message: odd, cause: odd });
    metrics.observe({ kind: 'grpc-call-failed', method: odd, peer: odd, code: odd, message: odd });
    metrics.observe({ kind: `evil-${n}` });
  };
  feed(0);
  const before = await size();
  for (let n = 1; n < 500; n++) feed(n);
  expect(await size()).toBe(before);
  expect(await metrics.render()).not.toMatch(/evil|pump-7/);
  expect(await metrics.render()).toContain('signalbox_commands_ended_total{kind="live",state="other"} 500');
});
