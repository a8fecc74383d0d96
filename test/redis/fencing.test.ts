import { expect, onTestFinished, test } from 'vitest';
import { openRedis } from '../../src/redis/index.ts';
import { addOptions, queuedCommand, succeeded } from '../contracts/command-store.ts';
import { describeNeeding } from '../support/needs.ts';
import { RedisServer, until } from '../support/redis.ts';

const node = (instance: string) => ({
  id: instance,
  instance,
  address: 'localhost:1',
  version: '1',
  startedAtMs: 1,
  load: { sessions: 0, isDraining: false },
});

describeNeeding('redis', 'directory and store together', () => {
  const pump = { tenant: 'default', clientId: 'pump-1', labels: {}, agent: '', peer: '' };
  const opened = async () => {
    const server = await RedisServer.start();
    onTestFinished(() => server.close());
    const store = await openRedis({ url: server.url });
    onTestFinished(() => store.close());
    return store;
  };

  test('a node that was paused beyond its lease writes nothing any more, and others may', async () => {
    const { commands, directory } = await opened();
    await directory.join(node('a'), 200);
    const claim = await directory.claim('a', pump);
    if (claim.kind !== 'claimed') throw new Error(claim.kind);
    const hold = { instance: 'a', epoch: claim.epoch };
    const command = queuedCommand();
    expect(await commands.add(command, addOptions({ hold }))).toMatchObject({ kind: 'stored' });
    expect(await commands.add(queuedCommand(), addOptions({ hold: 'nobody' }))).toEqual({
      kind: 'wrong-node',
      holder: hold,
    });
    await until(async () => (await directory.holders([pump]))[0] === undefined);
    expect(await commands.add(queuedCommand(), addOptions({ hold }))).toEqual({ kind: 'wrong-node' });
    const late = commands.finish(succeeded(command), { owner: command, hold });
    await expect(late).rejects.toMatchObject({ code: 'unavailable', holder: undefined });
    expect(await commands.add(queuedCommand(), addOptions({ hold: 'nobody' }))).toMatchObject({ kind: 'stored' });

    await directory.join(node('b'), 60_000);
    const next = await directory.claim('b', pump);
    if (next.kind !== 'claimed') throw new Error(next.kind);
    expect(next.epoch).toBeGreaterThan(claim.epoch);
    // The same process, awake, with the epoch that it had: its new lease does not make that good.
    await directory.join(node('a'), 60_000);
    await expect(commands.finish(succeeded(command), { owner: command, hold })).rejects.toMatchObject({
      holder: { instance: 'b', epoch: next.epoch },
    });
    expect((await commands.mailbox('default', 'pump-1', 0, 10)).length).toBe(2);
    const held = { owner: command, hold: { instance: 'b', epoch: next.epoch } };
    expect(await commands.finish(succeeded(command), held)).toEqual(succeeded(command));
  });

  test('clients that are long away are forgotten, with all of their keys, and their epochs still grow', async () => {
    const server = await RedisServer.start();
    onTestFinished(() => server.close());
    const { directory, close } = await openRedis({ url: server.url, rememberedClients: 64 });
    onTestFinished(close);
    await directory.join(node('a'), 60_000);
    const epochs: number[] = [];
    for (let i = 0; i < 300; i++) {
      const client = { ...pump, clientId: `pump-${i}` };
      const claim = await directory.claim('a', client);
      if (claim.kind === 'claimed') epochs.push(claim.epoch);
      await directory.release('a', client, epochs.at(-1)!);
    }
    const known = await directory.list('default');
    expect(known.length).toBeLessThanOrEqual(64);
    expect(await server.call('KEYS', 'signalbox:*:c:*')).toHaveLength(known.length);
    const again = await directory.claim('a', { ...pump, clientId: 'pump-0' });
    expect(again).toMatchObject({ kind: 'claimed', lastEpoch: 0 });
    if (again.kind === 'claimed') expect(again.epoch).toBeGreaterThan(epochs[0]!);
  });

  test('of commands that are pruned no key is left', async () => {
    const server = await RedisServer.start();
    onTestFinished(() => server.close());
    const { commands, close } = await openRedis({ url: server.url });
    onTestFinished(close);
    const before = await server.call('DBSIZE');
    const all = Array.from({ length: 50 }, (_, i) =>
      queuedCommand({ clientId: `pump-${i % 5}`, idempotencyKey: `k${i}`, coalesceKey: 'c' }),
    );
    for (const command of all) await commands.add(command, addOptions({ supersede: { ids: [], afterPosition: 0 } }));
    for (const command of all) await commands.finish(succeeded(command));
    expect(await commands.prune({ endedBeforeMs: 1e15, maxEnded: 0 })).toBe(50);
    expect(await server.call('DBSIZE')).toBe(before);
  });
});
