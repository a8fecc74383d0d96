import { afterEach, describe, expect, test } from 'vitest';
import type { ArchiveQuery, EventArchive } from '../../src/events/event-archive.ts';
import type { EventLog } from '../../src/events/event-log.ts';

/** What every `EventArchive` has to do. `open` gives an empty one, and the log whose durable events it finds. */
export function eventArchiveContract(
  name: string,
  open: () => Promise<{ archive: EventArchive; log: EventLog; settle(): Promise<void>; close(): Promise<void> }>,
): void {
  describe(`EventArchive: ${name}`, () => {
    const closers: (() => Promise<void>)[] = [];
    afterEach(async () => {
      for (const close of closers.splice(0)) await close();
    });
    const filled = async () => {
      const { archive, log, settle, close } = await open();
      closers.push(close);
      const tell = (key: string, type: string, atMs: number, data: unknown) =>
        log.append(key, { type, atMs, data, durable: true });
      await tell('t/client.a', 'temperature', 1000, { celsius: 71 });
      await tell('t/client.b', 'temperature', 2000, { celsius: 72, note: '100% "Hot"_ish' });
      await tell('t/client.a', 'pressure', 3000, { bar: 2 });
      await tell('t/task.1', 'done', 4000, { success: true });
      await tell('t2/client.a', 'temperature', 5000, { celsius: 99 });
      log.append('t/client.a', { type: 'temperature', atMs: 6000, data: 'volatile', durable: false });
      await settle();
      const find = async (query: Partial<ArchiveQuery>) =>
        (await archive.query({ tenant: 't', limit: 100, ...query })).events.map(({ atMs }) => atMs);
      return { archive, find, tell, settle };
    };

    test('finds durable events of one tenant, newest first, by channel, type, time and text', async () => {
      const { find, archive } = await filled();
      expect(await find({})).toEqual([4000, 3000, 2000, 1000]);
      expect(await find({ channels: ['client.a'] })).toEqual([3000, 1000]);
      expect(await find({ channels: ['client.*'] })).toEqual([3000, 2000, 1000]);
      expect(await find({ channels: ['client.b', 'task.*'] })).toEqual([4000, 2000]);
      expect(await find({ channels: [] })).toEqual([]);
      expect(await find({ types: ['temperature', 'done'] })).toEqual([4000, 2000, 1000]);
      expect(await find({ fromMs: 2000, toMs: 4000 })).toEqual([3000, 2000]);
      expect(await find({ text: 'hot' })).toEqual([2000]);
      expect(await find({ channels: ['client.*'], types: ['temperature'], text: '7' })).toEqual([2000, 1000]);
      expect(await find({ tenant: 't2' })).toEqual([5000]);
      const { events } = await archive.query({ tenant: 't', limit: 1 });
      expect(events[0]).toMatchObject({ channel: 'task.1', type: 'done', data: '{"success":true}' });
    });

    test('what is looked for is text, whatever it means elsewhere', async () => {
      const { find } = await filled();
      expect(await find({ text: '100%' })).toEqual([2000]);
      expect(await find({ text: '7%2' })).toEqual([]);
      expect(await find({ channels: ["client.a' OR 1=1 --"] })).toEqual([]);
      expect(await find({ channels: ['%*'] })).toEqual([]);
    });

    test('comes in pages without a hole or a repeat, also while more is told', async () => {
      const { archive, tell, settle } = await filled();
      for (let i = 0; i < 25; i++) await tell('t/client.c', 'tick', 10_000 + i, i);
      await settle();
      const seen: number[] = [];
      let after: string | undefined;
      do {
        const page = await archive.query({ tenant: 't', channels: ['client.c'], limit: 10, after });
        seen.push(...page.events.map(({ atMs }) => atMs - 10_000));
        after = page.next;
        await tell('t/client.c', 'tick', 99_000, 'new');
        await settle();
      } while (after !== undefined);
      expect(seen).toEqual(Array.from({ length: 25 }, (_, i) => 24 - i));
    });

    test('a page of another archive is refused', async () => {
      const { archive } = await filled();
      await expect(archive.query({ tenant: 't', limit: 1, after: 'nonsense!' })).rejects.toMatchObject({
        code: 'invalid-argument',
      });
    });
  });
}
