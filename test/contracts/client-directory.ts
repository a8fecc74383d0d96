import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type {
  ClaimOptions,
  ClientClaim,
  ClientDirectory,
  ClientEntry,
  ClientKey,
  NodeInfo,
} from '../../src/cluster/client-directory.ts';
import { eventually } from '../support/eventually.ts';

/** What a suite runs on. Two ends of one directory, as two nodes have them (they may be one object). */
export interface DirectoryUnderTest {
  readonly directory: ClientDirectory;
  readonly other: ClientDirectory;
  /** Lets this much time pass for the directory. */
  pass(ms: number): Promise<void>;
  close(): Promise<void>;
}

/** Longer than any of the tests that are not about its end. */
const longMs = 600_000;
/** As short as a suite that really waits can tell before from after on a busy machine. */
const leaseMs = 2000;

const node = (id: string, changes: Partial<NodeInfo> = {}): NodeInfo => ({
  id,
  instance: `${id}-1`,
  address: `${id}.local:50051`,
  version: '0.1.0',
  startedAtMs: 1000,
  load: { sessions: 0, isDraining: false },
  ...changes,
});

const pump = (clientId = 'pump-7', changes: Partial<ClientClaim> = {}): ClientClaim => ({
  tenant: 'default',
  clientId,
  labels: { site: 'north' },
  agent: 'test/1',
  peer: '10.0.0.7:1234',
  ...changes,
});

/** Holds any adapter of `ClientDirectory` to its port. */
export function clientDirectoryContract(name: string, create: () => Promise<DirectoryUnderTest>): void {
  describe(`client directory (${name})`, () => {
    let under: DirectoryUnderTest;
    let a: ClientDirectory;
    let b: ClientDirectory;

    beforeEach(async () => {
      under = await create();
      a = under.directory;
      b = under.other;
      await a.join(node('a'), longMs);
      await b.join(node('b'), longMs);
    });
    afterEach(() => under.close());

    const claimed = async (directory: ClientDirectory, instance: string, client = pump(), options?: ClaimOptions) => {
      const outcome = await directory.claim(instance, client, options);
      if (outcome.kind !== 'claimed') throw new Error(`not claimed: ${outcome.kind}`);
      return outcome;
    };
    const holder = async (client: ClientKey = pump()) => (await b.holders([client]))[0];

    test('lists the nodes by id, with what each told of itself', async () => {
      expect(await b.nodes()).toEqual([node('a'), node('b')]);
      expect(await a.renew('a-1', { sessions: 3, isDraining: true })).toBe(true);
      expect((await b.nodes())[0]).toEqual(node('a', { load: { sessions: 3, isDraining: true } }));
    });

    test('forgets a node that leaves, at once, and what it held is nobody’s', async () => {
      await claimed(a, 'a-1');
      await a.leave('a-1');
      await a.leave('a-1');
      expect((await b.nodes()).map(({ id }) => id)).toEqual(['b']);
      expect(await holder()).toBeUndefined();
      expect(await a.renew('a-1', { sessions: 0, isDraining: false })).toBe(false);
    });

    test('the first claim has no one before it', async () => {
      const outcome = await claimed(a, 'a-1');
      expect(outcome).toMatchObject({ lastEpoch: 0, lastInstance: undefined });
      expect(outcome.epoch).toBeGreaterThan(0);
      expect(await holder()).toEqual({ instance: 'a-1', epoch: outcome.epoch });
    });

    test('the newest claim wins, and says whom it took the client from', async () => {
      const first = await claimed(a, 'a-1');
      const second = await claimed(b, 'b-1');
      expect(second.epoch).toBeGreaterThan(first.epoch);
      expect(second).toMatchObject({ lastEpoch: first.epoch, lastInstance: 'a-1' });
      expect(await holder()).toEqual({ instance: 'b-1', epoch: second.epoch });
    });

    test('a node may claim again what it holds', async () => {
      const first = await claimed(a, 'a-1');
      const second = await claimed(a, 'a-1');
      expect(second).toMatchObject({ lastEpoch: first.epoch, lastInstance: 'a-1' });
      expect(second.epoch).toBeGreaterThan(first.epoch);
    });

    test('claims at the same time get different epochs, and the highest holds', async () => {
      const outcomes = await Promise.all(
        Array.from({ length: 20 }, (_, i) => (i % 2 ? claimed(a, 'a-1') : claimed(b, 'b-1'))),
      );
      const epochs = outcomes.map(({ epoch }) => epoch);
      expect(new Set(epochs).size).toBe(20);
      expect((await holder())?.epoch).toBe(Math.max(...epochs));
    });

    test('an epoch is above the one that the claimer knows', async () => {
      const far = Date.now() * 2;
      expect((await claimed(a, 'a-1', pump(), { afterEpoch: far })).epoch).toBeGreaterThan(far);
      expect((await claimed(b, 'b-1')).epoch).toBeGreaterThan(far + 1);
    });

    test('a claim under a condition fails once another came between', async () => {
      const first = await claimed(a, 'a-1');
      const again = await claimed(a, 'a-1', pump(), { ifEpoch: first.epoch });
      const other = await claimed(b, 'b-1');
      expect(await a.claim('a-1', pump(), { ifEpoch: again.epoch })).toEqual({ kind: 'taken', epoch: other.epoch });
      expect(await holder()).toEqual({ instance: 'b-1', epoch: other.epoch });
    });

    test('a release frees the client, and keeps its epoch and who had it', async () => {
      const first = await claimed(a, 'a-1');
      await a.release('a-1', pump(), first.epoch);
      await a.release('a-1', pump(), first.epoch);
      expect(await holder()).toBeUndefined();
      const second = await claimed(b, 'b-1');
      // It may still have commands in hand, for whoever has the client now.
      expect(second).toMatchObject({ lastEpoch: first.epoch, lastInstance: 'a-1' });
      expect(second.epoch).toBeGreaterThan(first.epoch);
    });

    test('a late release changes nothing', async () => {
      const first = await claimed(a, 'a-1');
      const second = await claimed(b, 'b-1');
      await a.release('a-1', pump(), first.epoch);
      await a.release('a-1', pump(), second.epoch);
      expect(await holder()).toEqual({ instance: 'b-1', epoch: second.epoch });
    });

    test('clients of different tenants are different clients', async () => {
      const ours = await claimed(a, 'a-1');
      const theirs = await claimed(b, 'b-1', pump('pump-7', { tenant: 'acme' }));
      expect(await b.holders([pump(), pump('pump-7', { tenant: 'acme' }), pump('pump-8')])).toEqual([
        { instance: 'a-1', epoch: ours.epoch },
        { instance: 'b-1', epoch: theirs.epoch },
        undefined,
      ]);
      expect(await b.holders([])).toEqual([]);
    });

    test('what a node held is nobody’s once its lease has ended, and it can claim and renew no more', async () => {
      const first = await claimed(a, 'a-1');
      await Promise.all([a.join(node('a'), leaseMs), b.join(node('b'), leaseMs)]);
      await under.pass(leaseMs / 2);
      await b.renew('b-1', { sessions: 0, isDraining: false });
      expect(await holder()).toBeDefined();
      await under.pass(leaseMs * 0.75);
      expect(await holder()).toBeUndefined();
      expect((await b.nodes()).map(({ id }) => id)).toEqual(['b']);
      expect(await b.get(pump())).toMatchObject({ epoch: first.epoch, instance: undefined });
      expect(await a.renew('a-1', { sessions: 0, isDraining: false })).toBe(false);
      expect(await a.claim('a-1', pump('pump-8'))).toEqual({ kind: 'lapsed' });
    });

    test('a node that comes back as a new instance claims what nobody took meanwhile', async () => {
      const mine = await claimed(a, 'a-1');
      const lost = await claimed(a, 'a-1', pump('pump-8'));
      await Promise.all([a.join(node('a'), leaseMs), b.join(node('b'), leaseMs)]);
      await under.pass(leaseMs + 50);
      await b.join(node('b', { instance: 'b-2' }), longMs);
      await claimed(b, 'b-2', pump('pump-8'));
      await a.join(node('a', { instance: 'a-2' }), longMs);
      expect(await a.claim('a-2', pump(), { ifEpoch: mine.epoch })).toMatchObject({
        kind: 'claimed',
        lastEpoch: mine.epoch,
        lastInstance: undefined,
      });
      expect(await a.claim('a-2', pump('pump-8'), { ifEpoch: lost.epoch })).toMatchObject({ kind: 'taken' });
    });

    test('a client is shown with what it told, held and away', async () => {
      const { epoch } = await claimed(a, 'a-1');
      expect(await b.get(pump())).toEqual({
        ...pump(),
        epoch,
        instance: 'a-1',
        claimedAtMs: expect.any(Number),
        releasedAtMs: undefined,
      });
      await a.release('a-1', pump(), epoch);
      expect(await b.get(pump())).toEqual({
        ...pump(),
        epoch,
        instance: undefined,
        claimedAtMs: expect.any(Number),
        releasedAtMs: expect.any(Number),
      });
      expect(await b.get(pump('pump-9'))).toBeUndefined();
    });

    test('a list holds the tenant’s clients of all nodes, by id', async () => {
      for (const [clientId, directory, instance] of [
        ['c', a, 'a-1'],
        ['a', b, 'b-1'],
        ['b', a, 'a-1'],
      ] as const)
        await claimed(directory, instance, pump(clientId));
      await claimed(a, 'a-1', pump('d', { tenant: 'acme' }));
      const { epoch } = (await b.get(pump('b')))!;
      await a.release('a-1', pump('b'), epoch);
      expect((await b.list('default')).map(({ clientId, instance }) => [clientId, instance])).toEqual([
        ['a', 'b-1'],
        ['b', undefined],
        ['c', 'a-1'],
      ]);
      expect((await b.list('default', { heldOnly: true })).map(({ clientId }) => clientId)).toEqual(['a', 'c']);
      expect(await b.list('nobody')).toEqual([]);
    });

    test('strange names are only names', async () => {
      const labels = { 'a"b': '{}', '': 'ü\n', __proto__x: '1' };
      const { epoch } = await claimed(a, 'a-1', pump('*{}:[x]?', { labels }));
      expect(await b.get(pump('*{}:[x]?'))).toMatchObject({ labels, epoch });
      expect(await b.get(pump('x'))).toBeUndefined();
    });

    test('hints tell the old holder that it lost a client, and nobody else', async () => {
      const heard: string[] = [];
      const letGo = a.onTaken('a-1', ({ tenant, clientId }, epoch) => heard.push(`${tenant}/${clientId} ${epoch}`));
      // A subscription may take a moment to be there.
      let last = 0;
      await eventually(async () => {
        await claimed(a, 'a-1');
        last = (await claimed(b, 'b-1')).epoch;
        await under.pass(20);
        expect(heard).not.toEqual([]);
      });
      await eventually(() => expect(heard.at(-1)).toBe(`default/pump-7 ${last}`));
      const other = b.onTaken('b-1', (_, epoch) => heard.push(`b ${epoch}`));
      await claimed(b, 'b-1');
      const release = await claimed(b, 'b-1');
      await b.release('b-1', pump(), release.epoch);
      await claimed(a, 'a-1');
      await claimed(a, 'a-1');
      heard.length = 0;
      const { epoch } = await claimed(b, 'b-1');
      await eventually(() => expect(heard).toEqual([`default/pump-7 ${epoch}`]));
      letGo();
      other();
      await claimed(a, 'a-1');
      await claimed(b, 'b-1');
      await under.pass(20);
      expect(heard).toHaveLength(1);
    });

    test('hints tell of changes of a tenant until they are let go of', async () => {
      const heard: ClientEntry[] = [];
      const letGo = b.onChange('default', (client) => heard.push(client));
      // A subscription may take a moment to be there.
      let last = 0;
      await eventually(async () => {
        last = (await claimed(a, 'a-1', pump('pump-0'))).epoch;
        await under.pass(20);
        expect(heard).not.toEqual([]);
      });
      await eventually(() => expect(heard.at(-1)?.epoch).toBe(last));
      heard.length = 0;
      const { epoch } = await claimed(a, 'a-1');
      await claimed(a, 'a-1', pump('pump-7', { tenant: 'acme' }));
      await a.release('a-1', pump(), epoch);
      await eventually(() => expect(heard.map(({ instance }) => instance)).toEqual(['a-1', undefined]));
      expect(heard[0]).toMatchObject({ ...pump(), epoch });
      letGo();
      await claimed(a, 'a-1');
      await under.pass(20);
      expect(heard).toHaveLength(2);
    });
  });
}
