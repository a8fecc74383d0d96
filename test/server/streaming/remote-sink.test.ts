import { expect, test } from 'vitest';
import { HubError } from '../../../src/errors.ts';
import { type RemoteSinkOptions, remoteSink } from '../../../src/server/streaming/remote-sink.ts';
import { StreamContext } from '../../../src/tasks/index.ts';
import { virtualClock } from '../../../src/testing/virtual-clock.ts';

interface Published {
  readonly channel?: string | undefined;
  readonly type?: string | undefined;
  readonly producerId?: string | undefined;
  readonly producerSeq?: number | undefined;
  readonly volatile?: boolean | undefined;
}

/** A hub that answers as it is told; what it has taken is taken, whether its answer comes or not. */
function rig(options: Partial<RemoteSinkOptions> = {}) {
  const clock = virtualClock();
  const asked: Published[] = [];
  const answers: ((asked: Published) => Promise<void>)[] = [];
  const publishEvent = async (event: Published) => {
    asked.push(event);
    await answers.shift()?.(event);
    return {};
  };
  const sink = remoteSink({ publishEvent } as never, { clock, ...options });
  const stream = (channelId: string, persistEvents = true) =>
    StreamContext.create(
      { workspaceId: 'w', project: 'p', env: 'e', service: 's', persistEvents },
      { sink, channelId },
    );
  return { clock, asked, answers, stream };
}

const away = () => Promise.reject(new HubError('unavailable', 'no way through'));
const types = (asked: readonly Published[]) => asked.map(({ channel, type }) => `${channel?.slice(7)} ${type}`);

test('an event whose answer was lost is sent again under its number, and the next one of its stream waits', async () => {
  const { clock, asked, answers, stream } = rig();
  answers.push(away, away);
  const told = [stream('a').log('first'), stream('a').data(2), stream('b', false).data(1)];
  await clock.advance(0);
  expect(types(asked)).toEqual(['a log', 'b data']);
  await clock.advance(10_000);
  await Promise.all(told);
  expect(types(asked).filter((each) => each.startsWith('a'))).toEqual(['a log', 'a log', 'a data']);
  const [first, again, second] = asked.filter(({ channel }) => channel === 'stream:a');
  expect(again).toEqual(first);
  expect(second!.producerSeq).toBeGreaterThan(first!.producerSeq!);
  expect(new Set(asked.map(({ producerId }) => producerId)).size).toBe(1);
  expect(asked.filter(({ volatile }) => volatile).map(({ channel }) => channel)).toContain('stream:b');
});

test('numbers of a stream rise, also after it was quiet', async () => {
  const { clock, asked, stream } = rig();
  for (const channelId of ['a', 'b', 'a', 'a']) {
    const told = stream(channelId).data(1);
    await clock.advance(0);
    await told;
  }
  const numbers = asked.filter(({ channel }) => channel === 'stream:a').map(({ producerSeq }) => producerSeq!);
  expect(numbers).toEqual([...new Set(numbers)].sort((one, other) => one - other));
  expect(numbers).toHaveLength(3);
});

test('a hub that stays away is given up after a time; one that refuses is not asked again, and holds nothing up', async () => {
  const { clock, asked, answers, stream } = rig({ patienceMs: 1000 });
  answers.push(...Array(100).fill(away));
  const given = expect(stream('a').data(1)).rejects.toMatchObject({ code: 'unavailable' });
  await clock.advance(10_000);
  await given;
  answers.length = 0;
  asked.length = 0;
  answers.push(() => Promise.reject(new HubError('permission-denied', 'not with this token')));
  const refused = expect(stream('a').data(2)).rejects.toMatchObject({ code: 'permission-denied' });
  const next = stream('a').data(3);
  await clock.advance(0);
  await refused;
  await next;
  expect(asked).toHaveLength(2);
});

test('only so many events wait', async () => {
  const { clock, answers, stream } = rig({ maxWaiting: 2 });
  answers.push(away);
  const told = [stream('a').data(1), stream('a').data(2)];
  await expect(stream('b').data(3)).rejects.toThrow('2 events wait for the hub: wait for emit() now and then');
  await clock.advance(10_000);
  await Promise.all(told);
  const after = stream('b').data(4);
  await clock.advance(0);
  await after;
});
