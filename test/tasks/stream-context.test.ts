import { expect, test } from 'vitest';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { logSink, StreamContext, type StreamEvent, type StreamSink } from '../../src/tasks/index.ts';

const fields = { workspaceId: 'acme', project: 'site', env: 'prod', service: 'api', buildId: 7 };

function sink() {
  const events: StreamEvent[] = [];
  const to: StreamSink = {
    append(event) {
      events.push(event);
      return undefined;
    },
  };
  return {
    to,
    events,
    told: () => events.map(({ type, json }) => [type, (({ context: _, ...rest }) => rest)(JSON.parse(json))]),
  };
}

test('a context tells all there is to tell, with its debug context in every event', async () => {
  const { to, events, told } = sink();
  const stream = StreamContext.create(fields, { sink: to });
  expect(stream.namespace).toBe('acme_site_prod_api');
  expect(stream.debugContext).toEqual(fields);
  expect(stream.channel).toBe(`stream:${stream.channelId}`);
  stream.emit('custom', { a: 1 });
  stream.log('careful', 'warning');
  stream.progress(12.5, 'build', 'building');
  stream.error('one pixel', { x: 1 });
  stream.data([1]);
  stream.deployStart('prod', 3);
  stream.deploySuccess('10.0.0.1', 'web-1', 'https://web-1');
  stream.deployFailure('10.0.0.2', 'no route');
  expect(stream.isClosed).toBe(false);
  await stream.complete(false, 'one of three failed', { ok: 2 });
  expect(stream.isClosed).toBe(true);
  expect(told()).toEqual([
    ['custom', { data: { a: 1 } }],
    ['log', { level: 'warning', message: 'careful' }],
    ['progress', { percent: 12.5, step: 'build', message: 'building' }],
    ['error', { message: 'one pixel', details: { x: 1 } }],
    ['data', { data: [1] }],
    ['deploy_start', { target: 'prod', serverCount: 3 }],
    ['deploy_success', { ip: '10.0.0.1', containerName: 'web-1', url: 'https://web-1' }],
    ['deploy_failure', { ip: '10.0.0.2', error: 'no route' }],
    ['done', { success: false, error: 'one of three failed', result: { ok: 2 } }],
  ]);
  for (const { json, durable } of events) {
    expect(JSON.parse(json).context).toEqual(fields);
    expect(durable).toBe(true);
  }
  expect(() => stream.log('too late')).toThrow('is complete');
});

test('it survives as JSON, and goes on elsewhere in the same channel', () => {
  const { to, events } = sink();
  const stream = StreamContext.create({ ...fields, persistEvents: false }, { sink: to, tenant: 't1', channelId: 'c1' });
  const text = JSON.stringify(stream);
  const again = StreamContext.fromJSON(text, { sink: to });
  expect(again.toJSON()).toEqual(stream.toJSON());
  expect(StreamContext.fromJSON(JSON.parse(text)).channel).toBe('stream:c1');
  again.log('from elsewhere');
  expect(events).toMatchObject([{ tenant: 't1', channel: 'stream:c1', type: 'log', durable: false }]);
});

test('without a place to go it says what to do', () => {
  expect(() => StreamContext.create(fields).log('to nobody')).toThrow('call initStreaming(...)');
});

test.each([
  ['create', () => StreamContext.create({ ...fields, env: '' }), 'needs env'],
  ['create', () => StreamContext.create({ ...fields, odd: {} } as never), 'odd has to be a text'],
  ['create', () => StreamContext.create(fields, { channelId: 'a/b' }), 'is not a channel name'],
  ['fromJSON', () => StreamContext.fromJSON('{'), 'it is no JSON'],
  ['fromJSON', () => StreamContext.fromJSON(5), 'it has no channelId'],
  ['fromJSON', () => StreamContext.fromJSON({ channelId: 'x', channel: 'a b', tenant: 't' }), 'is not a channel name'],
  ['create', () => StreamContext.create(undefined as never), 'needs workspaceId'],
  ['create', () => StreamContext.create(fields, { channelPrefix: 'client.' }), 'is written by the hub alone'],
  [
    'fromJSON',
    () => StreamContext.fromJSON({ channelId: 'x', channel: 'user.ann', tenant: 't', fence: { runId: '7', epoch: 1 } }),
    'is not the channel of run 7',
  ],
])('%s refuses what makes no sense', (_, make, message) => {
  expect(make).toThrow(message);
});

test.each(['task.7', 'client.pump-1', 'command.1', 'fleet'])('no JSON makes a stream of %s', (channel) => {
  const json = { channelId: 'x', channel, tenant: 't' };
  expect(() => StreamContext.fromJSON(json)).toThrow(`"${channel}" is written by the hub alone`);
});

test('it tells nothing that only the hub may tell, and no nonsense', () => {
  const stream = StreamContext.create(fields, { sink: sink().to });
  for (const type of ['done', 'ping', 'hub.gap', 'command.failed', 'a b'])
    expect(() => stream.emit(type, 1)).toThrow(type);
  expect(() => stream.progress(Number.NaN)).toThrow('NaN');
  expect(() => stream.log('x', 'loud' as never)).toThrow('loud');
});

test('the stream of a run is written by its worker alone, whoever has it as JSON', async () => {
  const log = memoryEventLog();
  const json = { channelId: '7', channel: 'task.7', tenant: 'default', context: {}, fence: { runId: '7', epoch: 1 } };
  const stream = StreamContext.fromJSON(json, { sink: logSink(log) });
  await expect(stream.log('from elsewhere')).rejects.toMatchObject({ code: 'permission-denied' });
  expect((await log.read('default/task.7', { epoch: 0, seq: 0 }, 10)).events).toEqual([]);
});

test('what it tells is what it was then, whatever becomes of it; what is no JSON, or too much, is refused at once', async () => {
  const log = memoryEventLog();
  const stream = StreamContext.create(fields, { sink: logSink(log), channelId: 'c1' });
  const state = { steps: 1 };
  stream.data(state);
  state.steps = 2;
  expect(() => stream.data(5n)).toThrow('event data of stream c1 is no JSON');
  expect(() => stream.emit('custom', circular())).toThrow('event custom of stream c1 is no JSON');
  expect(() => stream.log('x'.repeat(2 ** 20))).toThrow('the limit is 1048576');
  const { events } = await log.read('default/stream:c1', { epoch: 0, seq: 0 }, 10);
  expect(events.map((event) => JSON.parse(event.dataJson()).data)).toEqual([{ steps: 1 }]);
});

function circular(): object {
  const itself: { itself?: object } = {};
  itself.itself = itself;
  return itself;
}
