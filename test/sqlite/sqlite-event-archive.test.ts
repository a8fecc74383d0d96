import { expect, test } from 'vitest';
import { openSqlite } from '../../src/sqlite/index.ts';
import { eventArchiveContract } from '../contracts/event-archive.ts';
import { rig } from '../gateway/support.ts';

eventArchiveContract('SQLite', async () => {
  const { archive, log, close } = await openSqlite({ directory: ':memory:' });
  return { archive, log, settle: async () => undefined, close };
});

test('it finds one event among many, window by window, and over HTTP only what the caller may read', async () => {
  const { archive, log, close } = await openSqlite({ directory: ':memory:', maxEvents: 100_000 });
  await log.append('default/rare.one', { type: 'rare', atMs: 1, data: 'needle', durable: true });
  const many = [];
  for (let i = 0; i < 45_000; i++)
    many.push(
      log.append(`default/user.${i % 3 === 0 ? 'ann' : 'bob'}`, { type: 'tick', atMs: 2, data: i, durable: true }),
    );
  await Promise.all(many);
  {
    const authenticator = {
      authenticate: async () => ({ subject: 'ann', tenant: 'default', scopes: new Set(['events:read'] as const) }),
    };
    await using at = await rig({ log, archive, authenticator });
    const get = async (query: string) => {
      const response = await fetch(`${at.url}/v1/archive?${query}`);
      return {
        status: response.status,
        body: (await response.json()) as { events: { channel: string }[]; next?: string },
      };
    };
    const found = await get('text=needle');
    expect(found.body.events).toEqual([
      { channel: 'rare.one', epoch: log.epoch, seq: 1, type: 'rare', at: '1970-01-01T00:00:00.001Z', data: 'needle' },
    ]);
    const { body } = await get('channel=user.*&limit=300');
    expect(new Set(body.events.map(({ channel }) => channel))).toEqual(new Set(['user.ann']));
    expect(body.next).toBeDefined();
    expect((await get('channel=user.bob')).status).toBe(403);
    expect((await get('from=yesterday')).status).toBe(400);
    expect((await get('after=x')).status).toBe(400);
  }
  await close();
});
