import { describe, expect, test } from 'vitest';
import type { Authenticator } from '../../src/auth/principal.ts';
import { HubError } from '../../src/errors.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import type { GatewayFact } from '../../src/gateway/index.ts';
import { rig } from '../gateway/support.ts';

export interface SeenEvent {
  readonly id: string;
  readonly name: string;
  readonly data: unknown;
}

/** One open stream of `/v1/events` or its like. */
export interface Watching {
  /** The id to come back with before anything has happened. */
  readonly openingId: string;
  readonly retryMs: number;
  /** The next event; undefined at the end. */
  next(): Promise<SeenEvent | undefined>;
  /** Reads nothing more from the socket. */
  stopReading(): void;
  leave(): void;
}

export interface Road {
  /** `query`: as behind `/v1/events?`. Rejects with an error that begins with the HTTP status. */
  open(url: string, query: string, headers?: Record<string, string>): Promise<Watching>;
}

const byName: Authenticator = {
  async authenticate({ bearer }) {
    if (!bearer) throw new HubError('unauthenticated', 'no token');
    const channels = bearer === 'ann' ? ['client.pump-7'] : undefined;
    return { subject: bearer, tenant: 'default', scopes: new Set(['events:read']), channels };
  },
};

/** What watching has to be, whatever it goes over. */
export function watchingContract(name: string, { open }: Road): void {
  const take = async (watching: Watching, count: number): Promise<SeenEvent[]> => {
    const seen: SeenEvent[] = [];
    while (seen.length < count) {
      const event = await watching.next();
      if (!event) throw new Error('the stream has ended');
      seen.push(event);
    }
    return seen;
  };
  const inner = (events: SeenEvent[]) => events.map(({ data }) => (data as { data: unknown }).data);

  describe(`watching: ${name}`, () => {
    test('begins with an id to come back with and a time to wait before that', async () => {
      await using at = await rig();
      const watching = await open(at.url, 'channel=fleet');
      expect(watching.openingId).toMatch(/^[A-Za-z0-9_-]{1,128}$/);
      expect(watching.retryMs).toBe(2000);
      watching.leave();
    });

    test('brings each event with its name, its id and its JSON, of all channels that were asked for', async () => {
      await using at = await rig();
      const watching = await open(at.url, 'channel=client.pump-7&channel=fleet');
      at.append('client.pump-7', 'temperature', { celsius: 71, text: 'a\nb' });
      at.append('client.pump-8', 'temperature', 'not asked for');
      const [first] = await take(watching, 1);
      expect(first).toMatchObject({
        name: 'temperature',
        data: { channel: 'client.pump-7', seq: 1, type: 'temperature', data: { celsius: 71, text: 'a\nb' } },
      });
      at.append('fleet', 'client.connected', 1);
      expect((await take(watching, 1))[0]).toMatchObject({ name: 'client.connected', data: { channel: 'fleet' } });
      watching.leave();
    });

    test('goes on after a cut without a hole and without a repeat', async () => {
      await using at = await rig();
      const first = await open(at.url, 'channel=t.x');
      for (let i = 0; i < 3; i++) at.append('t.x', 'tick', i);
      const seen = await take(first, 2);
      first.leave();
      for (let i = 3; i < 6; i++) at.append('t.x', 'tick', i);
      const second = await open(at.url, `channel=t.x&last_event_id=${seen[1]!.id}`);
      expect(inner(await take(second, 4))).toEqual([2, 3, 4, 5]);
      second.leave();
      const third = await open(at.url, `channel=t.x&last_event_id=${first.openingId}`);
      expect(inner(await take(third, 6))).toEqual([0, 1, 2, 3, 4, 5]);
      third.leave();
    });

    test('from the start brings first all that is kept', async () => {
      await using at = await rig();
      for (let i = 0; i < 500; i++) at.append('t.x', 'tick', i);
      const watching = await open(at.url, 'channel=t.x&from=start');
      expect(inner(await take(watching, 500))).toEqual(Array.from({ length: 500 }, (_, i) => i));
      watching.leave();
    });

    test('tells what is missing: numbers that are gone, and a place that nobody knows', async () => {
      await using at = await rig({ log: memoryEventLog({ ringEvents: 3 }) });
      const first = await open(at.url, 'channel=t.x');
      first.leave();
      for (let i = 0; i < 10; i++) at.append('t.x', 'tick', i);
      const second = await open(at.url, `channel=t.x&last_event_id=${first.openingId}`);
      const [gap, ...rest] = await take(second, 4);
      expect(gap).toMatchObject({ name: 'hub.gap', data: { channel: 't.x', from: 1, to: 7 } });
      expect(inner(rest)).toEqual([7, 8, 9]);
      second.leave();
      const third = await open(at.url, 'channel=t.x&last_event_id=nonsense');
      expect((await take(third, 1))[0]).toMatchObject({ name: 'hub.reset', data: { reason: 'unknown-position' } });
      third.leave();
    });

    test('refuses before anything is opened: no token, a channel that is not for the caller, a name that is none', async () => {
      await using at = await rig({ authenticator: byName });
      const as = (bearer: string) => ({ authorization: `Bearer ${bearer}` });
      await expect(open(at.url, 'channel=fleet')).rejects.toThrow(/^401 /);
      await expect(open(at.url, 'channel=fleet', as('ann'))).rejects.toThrow(/^403 .*may not read the channel/);
      await expect(open(at.url, 'channel=a/b', as('bob'))).rejects.toThrow(/^400 .*"field":"channel"/);
      await expect(open(at.url, '', as('bob'))).rejects.toThrow(/^400 /);
      await expect(open(at.url, 'channel=fleet', { ...as('bob'), origin: 'https://evil.example' })).rejects.toThrow(
        /^403 .*evil/,
      );
      expect(at.gateway.openStreams).toBe(0);
      const watching = await open(at.url, 'channel=client.pump-7', as('ann'));
      watching.leave();
    });

    test('keeps to the limit of streams, and gives the place back', async () => {
      await using at = await rig({ limits: { streams: 1 } });
      const first = await open(at.url, 'channel=fleet');
      await expect(open(at.url, 'channel=fleet')).rejects.toThrow(/^429 .*resource-exhausted/);
      first.leave();
      await expect.poll(() => at.gateway.openStreams).toBe(0);
      (await open(at.url, 'channel=fleet')).leave();
    });

    test('cuts a peer that takes nothing, and others do not notice', async () => {
      const facts: GatewayFact[] = [];
      await using at = await rig({
        limits: { streamBufferBytes: 4096, stallMs: 200 },
        observe: (fact) => facts.push(fact),
      });
      const lame = await open(at.url, 'channel=t.x');
      const well = await open(at.url, 'channel=t.x');
      lame.stopReading();
      const text = 'x'.repeat(100_000);
      for (let i = 0; i < 200; i++) {
        at.append('t.x', 'tick', { i, text });
        expect(await well.next()).toMatchObject({ data: { data: { i } } });
      }
      await expect
        .poll(() => facts.some((fact) => fact.kind === 'stream-closed' && fact.reason === 'stalled'))
        .toBe(true);
      at.append('t.x', 'tick', { i: 200 });
      expect(await well.next()).toMatchObject({ data: { data: { i: 200 } } });
      well.leave();
    });

    test('says when to come back before the gateway goes, and ends', async () => {
      await using at = await rig();
      const watching = await open(at.url, 'channel=fleet');
      void at.gateway.drain({ reconnectAfterMs: 500, spreadMs: 0 });
      expect(await watching.next()).toMatchObject({ name: 'hub.drain', data: { reconnectAfterMs: 500 } });
      expect(await watching.next()).toBeUndefined();
    });

    test('ends with the token', async () => {
      const expiresAtMs = Date.now() + 300;
      const authenticator: Authenticator = {
        authenticate: async () => ({
          subject: 'ann',
          tenant: 'default',
          scopes: new Set(['events:read']),
          expiresAtMs,
        }),
      };
      await using at = await rig({ authenticator });
      const watching = await open(at.url, 'channel=fleet');
      expect(await watching.next()).toMatchObject({ name: 'hub.expired' });
      expect(await watching.next()).toBeUndefined();
    });
  });
}
