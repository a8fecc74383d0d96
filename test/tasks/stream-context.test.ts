import { expect, test } from 'vitest';
import { StreamContext, type StreamEvent, type StreamSink } from '../../src/tasks/index.ts';

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
    told: () =>
      events.map(({ type, data }) => [type, (({ context: _, ...rest }) => rest)(data as { context: object })]),
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
  for (const { data, durable } of events) {
    expect((data as { context: object }).context).toEqual(fields);
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
])('%s refuses what makes no sense', (_, make, message) => {
  expect(make).toThrow(message);
});

test('it tells nothing that only the hub may tell, and no nonsense', () => {
  const stream = StreamContext.create(fields, { sink: sink().to });
  for (const type of ['done', 'ping', 'hub.gap', 'command.failed', 'a b'])
    expect(() => stream.emit(type, 1)).toThrow(type);
  expect(() => stream.progress(Number.NaN)).toThrow('NaN');
  expect(() => stream.log('x', 'loud' as never)).toThrow('loud');
});
