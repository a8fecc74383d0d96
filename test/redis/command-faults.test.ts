import { randomUUID } from 'node:crypto';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import { toHubError } from '../../src/errors.ts';
import type { AddOutcome, CommandStore } from '../../src/hub/command-store.ts';
import type { Command } from '../../src/protocol/command.ts';
import { openRedis, type RedisFact, type RedisOptions, type RedisStore } from '../../src/redis/index.ts';
import { faultProxy, seededRandom } from '../../src/testing/index.ts';
import { addOptions, queuedCommand, succeeded } from '../contracts/command-store.ts';
import { eventually } from '../support/eventually.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer, until } from '../support/redis.ts';
import { stalls } from '../support/stalls.ts';
import { patient, patiently } from './patient.ts';

// P14 to P16 of the store of commands: the oracle is what callers were told, never the store itself.

const many = { maxCommands: 1_000_000, maxBytes: 1e9 };

/** What callers were told of each command. */
class Told {
  readonly accepted = new Map<string, Command>();
  readonly ended = new Set<string>();
  readonly codes: string[] = [];
  slowestMs = 0;

  async add(store: CommandStore, command: Command): Promise<AddOutcome['kind'] | 'refused'> {
    const kind = await this.#ask(async () => (await store.add(command, addOptions(many))).kind);
    if (kind === 'stored' || kind === 'existing') this.accepted.set(command.id, command);
    return kind ?? 'refused';
  }

  async finish(store: CommandStore, command: Command): Promise<void> {
    const end = await this.#ask(() => store.finish(succeeded(command), { owner: command }));
    if (end) this.ended.add(command.id);
  }

  async #ask<T>(question: () => Promise<T>): Promise<T | undefined> {
    const begun = performance.now();
    try {
      return await question();
    } catch (error) {
      this.codes.push(toHubError(error).code);
      return undefined;
    } finally {
      this.slowestMs = Math.max(this.slowestMs, performance.now() - begun);
    }
  }
}

const clients = Array.from({ length: 10 }, (_, i) => `pump-${i}`);
const anyCommand = (i: number) => queuedCommand({ clientId: clients[i % clients.length]! });

describeNeeding('redis', 'queued commands in a Redis that fails', () => {
  const facts: RedisFact[] = [];
  afterEach(() => {
    facts.length = 0;
  });
  const started = async (options: Parameters<typeof RedisServer.start>[0] = {}) => {
    // Without that setting Redis may answer up to two seconds before it writes.
    const server = await RedisServer.start({ ...options, settings: { appendfsync: 'always', ...options.settings } });
    onTestFinished(() => server.close());
    return server;
  };
  const opened = async (url: string, options: Partial<RedisOptions> = {}): Promise<RedisStore> => {
    const observe = (fact: RedisFact) => facts.push(fact);
    const store = await patiently(() => openRedis({ url, prefix: 'faults', timeoutMs: 500, observe, ...options }));
    onTestFinished(() => store.close());
    return store;
  };
  const kinds = () => facts.map(({ kind }) => kind);

  /** All that was accepted is there, once, pending or ended as its caller was told, and in counts that agree. */
  const expectKept = async (asked: CommandStore, told: Told) => {
    const store = patient(asked);
    for (const command of told.accepted.values()) {
      const kept = await store.get(command.id);
      expect(kept?.command, command.id).toEqual(command);
      if (told.ended.has(command.id)) expect(kept?.last.state).toBe('succeeded');
    }
    let pending = 0;
    for (const clientId of clients) {
      const box = await store.mailbox('default', clientId, 0, 1_000_000);
      expect(new Set(box.map(({ command }) => command.id)).size).toBe(box.length);
      expect(await store.count('default', clientId)).toBe(box.length);
      pending += box.length;
    }
    expect(await store.count()).toBe(pending);
    expect(await store.count('default')).toBe(pending);
    return pending;
  };

  /** Callers that go on through a fault, one command after the other, until told to stop. */
  const callersOf = (store: CommandStore, told: Told, count = 8) => {
    let isOver = false;
    const tries = { made: 0, stored: 0 };
    const running = Array.from({ length: count }, async () => {
      while (!isOver) {
        const command = anyCommand(tries.made++);
        const kind = await told.add(store, command);
        if (kind === 'refused') await new Promise((resolve) => setTimeout(resolve, 20));
        else tries.stored++;
        if (kind === 'stored' && tries.made % 3 === 0) await told.finish(store, command);
      }
    });
    return {
      tries,
      async stop() {
        isOver = true;
        await Promise.all(running);
      },
    };
  };

  const outages: [string, (server: RedisServer) => Promise<void>, (server: RedisServer) => Promise<void>][] = [
    ['killed', (server) => server.kill(), (server) => server.restart()],
    ['stopped (SIGSTOP)', async (server) => server.freeze(), async (server) => server.thaw()],
    [
      'full',
      async (server) => void (await server.call('CONFIG', 'SET', 'maxmemory', '1')),
      async (server) => void (await server.call('CONFIG', 'SET', 'maxmemory', '0')),
    ],
    [
      'made a replica of nobody',
      async (server) => void (await server.call('REPLICAOF', '127.0.0.1', '1')),
      async (server) => void (await server.call('REPLICAOF', 'NO', 'ONE')),
    ],
    [
      'loading',
      (server) => server.restartLoading({ 'key-load-delay': '300', 'loading-process-events-interval-bytes': '1024' }),
      async (server) => until(async () => (await server.call('PING').catch(() => '')) === 'PONG'),
    ],
  ];
  for (const [name, harm, heal] of outages)
    test(`a Redis that is ${name} refuses in time, and has all that was accepted when it is well again (P14)`, async () => {
      using held = stalls();
      const server = await started();
      const { commands: store } = await opened(server.url);
      const told = new Told();
      const callers = callersOf(store, told);
      await until(() => callers.tries.stored > 200);
      await harm(server);
      await until(() => told.codes.length > 0);
      await expect(store.add(anyCommand(0), addOptions(many))).rejects.toMatchObject({
        code: 'unavailable',
        retryAfterMs: expect.any(Number),
      });
      await heal(server);
      const before = callers.tries.stored;
      // Nobody has to be restarted; the promise is ten seconds.
      await until(() => callers.tries.stored > before, 10_000);
      await until(() => callers.tries.stored > before + 200);
      await callers.stop();
      expect([...new Set(told.codes)]).toEqual(['unavailable']);
      // Half a second is the limit of a call here; the rest is for a busy machine.
      expect(told.slowestMs).toBeLessThan(4000 + held.ms);
      await expectKept(store, told);
    });

  test('a road that swallows everything refuses in time, and is left for a new one (P14)', async () => {
    using held = stalls();
    const server = await started();
    const road = await faultProxy({ target: `127.0.0.1:${server.port}` });
    onTestFinished(() => road.close());
    const { commands: store } = await opened(`redis://${road.address}`);
    const told = new Told();
    const callers = callersOf(store, told);
    await until(() => callers.tries.stored > 200);
    road.blackHole();
    await until(() => told.codes.length > 8);
    road.heal();
    const before = callers.tries.stored;
    await until(() => callers.tries.stored > before, 10_000);
    await until(() => callers.tries.stored > before + 200);
    await callers.stop();
    expect([...new Set(told.codes)]).toEqual(['unavailable']);
    expect(told.slowestMs).toBeLessThan(4000 + held.ms);
    await expectKept(store, told);
  });

  test('connections that are killed and scripts that are forgotten are not noticed by callers (P14)', async () => {
    const server = await started();
    const { commands: store } = await opened(server.url, { timeoutMs: 5000 });
    const told = new Told();
    const callers = callersOf(store, told);
    for (let i = 1; i <= 10; i++) {
      await until(() => callers.tries.stored > 50 * i);
      await server.call('CLIENT', 'KILL', 'TYPE', 'normal');
      await server.call('SCRIPT', 'FLUSH');
    }
    await callers.stop();
    expect(told.codes).toEqual([]);
    expect(await expectKept(store, told)).toBe(told.accepted.size - told.ended.size);
    expect(kinds()).toContain('redis-back');
  });

  test('a Redis that comes back empty is told of, takes commands again, and ends the old ones honestly (P14)', async () => {
    const server = await started();
    const { commands: store } = await opened(server.url);
    const lost = anyCommand(0);
    await store.add(lost, addOptions());
    const { stored } = (await store.add(anyCommand(0), addOptions())) as Extract<AddOutcome, { kind: 'stored' }>;
    await server.restart({ empty: true });
    const message = expect.stringContaining('has lost everything it kept');
    await until(() => facts.some((fact) => fact.kind === 'redis-emptied' && fact.message.includes('has lost')));
    expect(facts).toContainEqual({ kind: 'redis-emptied', message });
    await expect(store.finish(succeeded(lost), { owner: lost })).rejects.toMatchObject({ code: 'not-found' });
    const again = (await store.add(anyCommand(0), addOptions())) as Extract<AddOutcome, { kind: 'stored' }>;
    expect(again.stored.position, 'positions do not begin anew').toBeGreaterThan(stored.position);
    expect(kinds().filter((kind) => kind === 'redis-emptied').length).toBeLessThanOrEqual(2);
  });

  test('answers that are lost double no write: counts equal the ledger (P15)', async () => {
    const server = await started();
    const random = seededRandom(7);
    // Every connection breaks soon after its handshake (6 KB): the write is made, and nobody hears of it.
    const road = await faultProxy({
      target: `127.0.0.1:${server.port}`,
      random,
    });
    onTestFinished(() => road.close());
    const { commands: store, directory } = await opened(`redis://${road.address}`, { timeoutMs: 10_000 });
    await directory.join(
      {
        id: 'a',
        instance: 'a-1',
        address: 'a:1',
        version: '1',
        startedAtMs: 1,
        load: { sessions: 0, isDraining: false },
      },
      60_000,
    );
    road.setFaults({ down: { cutAfterBytes: [8000, 30_000] } });
    road.cutAll();
    const told = new Told();
    const superseded = new Map<string, string>();
    let epoch = 0;
    const waves = 12;
    for (let wave = 0; wave < waves; wave++) {
      const commands = Array.from({ length: 100 }, (_, i) =>
        queuedCommand({
          clientId: clients[i % 10]!,
          idempotencyKey: i % 4 === 0 ? randomUUID() : undefined,
          coalesceKey: i % 10 === 3 ? 'config' : undefined,
        }),
      );
      await Promise.all(
        commands.map(async (command, i) => {
          const supersede = command.coalesceKey ? { ids: [], afterPosition: 0 } : undefined;
          const outcome = await store.add(command, addOptions({ ...many, supersede }));
          // Each is sent once, so each is new to the store, whatever became of its answer.
          expect(outcome.kind).toBe('stored');
          told.accepted.set(command.id, command);
          if (outcome.kind === 'stored')
            for (const old of outcome.superseded) {
              expect(superseded.has(old.command.id), 'replaced twice').toBe(false);
              superseded.set(old.command.id, command.id);
            }
          if (i % 2 === 0 && !command.coalesceKey) await told.finish(store, command);
        }),
      );
      // Claims as well: one for each call, whose epochs rise, and which know the one before.
      const client = { tenant: 'default', clientId: 'pump-0', labels: {}, agent: '', peer: '' };
      for (let i = 0; i < 10; i++) {
        const claim = await directory.claim('a-1', client, { ifEpoch: epoch || undefined });
        expect(claim).toMatchObject({ kind: 'claimed', lastEpoch: epoch });
        if (claim.kind === 'claimed') epoch = claim.epoch;
      }
    }
    expect(road.counts.cut, 'nothing was lost, so nothing was tried').toBeGreaterThan(20);
    road.setFaults({});
    expect(told.codes).toEqual([]);
    // All but the newest configuration of the one client that they are for.
    expect(superseded.size).toBe(waves * 10 - 1);
    expect(await expectKept(store, told)).toBe(told.accepted.size - told.ended.size - superseded.size);
    expect((await store.list({ tenant: 'default', limit: 100_000 })).length).toBe(told.accepted.size);
    expect(await store.prune({ endedBeforeMs: 1e15, maxEnded: 0 })).toBe(told.ended.size + superseded.size);
  });

  test('with `replicated` what was accepted is on the replica when the primary dies (P16)', async () => {
    const primary = await started();
    const replica = await started({ replicaOf: primary });
    let target = `127.0.0.1:${primary.port}`;
    const road = await faultProxy({ target: () => target });
    onTestFinished(() => road.close());
    const { commands: store } = await opened(`redis://${road.address}`, { durability: 'replicated', timeoutMs: 1000 });
    const told = new Told();
    const callers = callersOf(store, told);
    await until(() => callers.tries.stored > 500);
    // The newest writes have not come to the replica when the primary dies.
    replica.freeze();
    await until(() => told.codes.length > 0);
    await primary.kill();
    replica.thaw();
    await replica.call('REPLICAOF', 'NO', 'ONE');
    target = `127.0.0.1:${replica.port}`;
    road.cutAll();
    // Alone it confirms nothing: until it has a replica, no write is acknowledged.
    await expect(store.add(anyCommand(0), addOptions(many))).rejects.toMatchObject({ code: 'unavailable' });
    await started({ replicaOf: replica });
    const before = callers.tries.stored;
    await until(() => callers.tries.stored > before + 100);
    await callers.stop();
    expect([...new Set(told.codes)]).toEqual(['unavailable']);
    await expectKept(store, told);
  });

  test('without a replica `replicated` refuses, and says that no replica has confirmed it (P16)', async () => {
    const server = await started();
    const { commands: store } = await opened(server.url, { durability: 'replicated', timeoutMs: 300 });
    expect(facts).toContainEqual({ kind: 'redis-advice', message: expect.stringContaining('no replica') });
    // A Redis that is slow to say so is told of, too: it is never more than a refusal.
    await eventually(async () => {
      await expect(store.add(anyCommand(0), addOptions())).rejects.toMatchObject({
        code: 'unavailable',
        message: expect.stringContaining('replica'),
      });
    });
  });

  test('with `stored` and appendfsync always a kill -9 of Redis loses nothing that was accepted (P16)', async () => {
    const server = await started();
    const { commands: store } = await opened(server.url);
    const told = new Told();
    for (let round = 1; round <= 3; round++) {
      const callers = callersOf(store, told);
      await until(() => callers.tries.stored > 300 * round);
      await server.kill();
      await callers.stop();
      await server.restart();
      await until(async () => (await store.count().catch(() => -1)) >= 0);
      await expectKept(store, told);
    }
    expect(kinds()).not.toContain('redis-advice');
  });

  test('with appendfsync everysec a restart of Redis may have lost the newest, and that is told (P16)', async () => {
    const server = await started({ settings: { appendfsync: 'everysec' } });
    const { commands: store } = await opened(server.url);
    const told = new Told();
    const callers = callersOf(store, told);
    await until(() => callers.tries.stored > 300);
    await server.kill();
    await callers.stop();
    await server.restart();
    await until(() => kinds().includes('redis-advice'));
    expect(facts.find(({ kind }) => kind === 'redis-advice')).toMatchObject({
      message: expect.stringMatching(/restarted.*two seconds.*appendfsync always/),
    });
    // What is kept is whole, whatever is missing: every count agrees.
    await expectKept(store, new Told());
  });
});
