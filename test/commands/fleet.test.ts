import { describe, expect, expectTypeOf, test } from 'vitest';
import {
  type ClientLister,
  type ClientQuery,
  type FleetOutcome,
  type FleetRun,
  type FleetSelector,
  fleet,
  type SendReceipt,
} from '../../src/commands/index.ts';
import { HubError } from '../../src/errors.ts';
import { type CommandCodec, protoCodec } from '../../src/protocol/codec.ts';
import type { Payload } from '../../src/protocol/command.ts';
import {
  ConfigUpdateRequest,
  ConfigUpdateResponse,
  PumpAnswer,
  PumpCommand,
  PumpServiceDefinition,
} from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { ManualClock, ScriptedTransport, type SentCommand, settled } from './scripted-transport.ts';

const payload: Payload = { type: 'my.Restart', value: Uint8Array.of(1) };
const ids = (count: number): string[] => Array.from({ length: count }, (_, i) => `pump-${i}`);
const succeed = (sent: SentCommand): void => void sent.tell('queued', 'delivered').succeed();
const fail = (sent: SentCommand): void => void sent.tell('queued').end('failed', { code: 'jam', message: 'stuck' });
const clientsOf = (transport: ScriptedTransport): string[] => transport.sent.map(({ command }) => command.clientId);

class Lister implements ClientLister {
  readonly asked: ClientQuery[] = [];
  async listClients(query: ClientQuery): Promise<string[]> {
    this.asked.push(query);
    return ['pump-3', 'pump-1', 'pump-2'];
  }
}

describe('who is meant', () => {
  test('ids, each once, without those excluded', async () => {
    const transport = new ScriptedTransport(succeed);
    const selector = { ids: ['b', 'a', 'b', 'c'], exclude: ['c'] };
    await fleet(selector, { transport }).request(payload).all();
    expect(clientsOf(transport)).toEqual(['b', 'a']);
  });

  test('labels ask for the connected clients that have them', async () => {
    const [transport, clients] = [new ScriptedTransport(succeed), new Lister()];
    const run = fleet({ labels: { site: 'north' } }, { transport, clients, tenant: 'acme' }).request(payload);
    expect((await run.all()).map(({ clientId }) => clientId)).toEqual(['pump-1', 'pump-2', 'pump-3']);
    expect(clients.asked).toEqual([{ tenant: 'acme', labels: { site: 'north' }, connectedOnly: true }]);
    expect(transport.last.command.tenant).toBe('acme');
  });

  test('queued commands also go to those that are away', async () => {
    const [transport, clients] = [new ScriptedTransport((sent) => sent.tell('queued')), new Lister()];
    await fleet({ all: true, exclude: ['pump-2'] }, { transport, clients, whenOffline: 'queue' })
      .send(payload)
      .all();
    expect(clients.asked).toEqual([{ tenant: 'default', labels: undefined, connectedOnly: false }]);
    expect(clientsOf(transport)).toEqual(['pump-1', 'pump-3']);
  });

  test('a hub in this process is asked itself, and a road that lists clients too', async () => {
    const hub = Object.assign(new ScriptedTransport(succeed), {
      clients: { list: (tenant: string, filter: object) => [{ id: `${tenant}-${JSON.stringify(filter)}` }] },
    });
    expect(await fleet({ all: true }, { transport: hub }).ids()).toEqual(['default-{"connectedOnly":true}']);
    const road = Object.assign(new ScriptedTransport(succeed), new Lister(), { listClients: async () => ['x'] });
    expect(await fleet({ all: true }, { transport: road }).ids()).toEqual(['x']);
    const bare = fleet({ all: true }, { transport: new ScriptedTransport() });
    await expect(bare.request(payload).all()).rejects.toMatchObject({ code: 'unimplemented' });
  });

  test.each([
    [{}, 'not by nothing'],
    [{ ids: ['a'], all: true }, 'not by ids and all'],
    [{ ids: ['../a'] }, 'client id "../a" is not valid'],
    [{ all: true, exclude: ['*'] }, 'client id "*" is not valid'],
    [{ labels: {} }, 'a fleet by labels needs at least one'],
    [{ all: false }, 'all is false: it has to be true'],
  ])('the selector %j is refused', (selector, message) => {
    expect(() => fleet(selector as unknown as FleetSelector)).toThrow(message);
  });
});

describe('outcomes', () => {
  test('are told per client, in the order in which they come', async () => {
    const transport = new ScriptedTransport();
    const outcomes: FleetOutcome<Payload>[] = [];
    const reading = (async () => {
      for await (const outcome of fleet({ ids: ['a', 'b', 'c', 'd', 'e'] }, { transport }).request(payload))
        outcomes.push(outcome);
    })();
    await settled();
    const [a, b, c, d, e] = transport.sent as [SentCommand, SentCommand, SentCommand, SentCommand, SentCommand];
    succeed(e);
    await settled();
    c.updates.fail(new HubError('client-offline', 'no live stream for client c'));
    await settled();
    fail(b);
    await settled();
    d.updates.fail(new HubError('mailbox-full', 'full'));
    await settled();
    a.tell('queued').end('unknown', { code: 'interrupted', message: '' });
    await reading;
    expect(outcomes.map(({ clientId, outcome }) => `${clientId} ${outcome}`)).toEqual([
      'e succeeded',
      'c offline',
      'b failed',
      'd refused',
      'a unknown',
    ]);
    expect(outcomes[2]).toMatchObject({ error: { code: 'command-failed', deviceCode: 'jam' } });
  });

  test('summary counts them', async () => {
    const transport = new ScriptedTransport((sent) =>
      sent.command.clientId === 'pump-1' ? fail(sent) : succeed(sent),
    );
    expect(
      await fleet({ ids: ids(5) }, { transport })
        .request(payload)
        .summary(),
    ).toMatchObject({
      succeeded: 4,
      failed: 1,
      skipped: 0,
    });
  });

  test('send tells who has acknowledged', async () => {
    const transport = new ScriptedTransport((sent) => sent.tell('queued', 'sent', 'delivered'));
    const [outcome] = await fleet({ ids: ['a'] }, { transport })
      .send(payload)
      .all();
    expect(outcome).toMatchObject({ clientId: 'a', outcome: 'succeeded', result: { state: 'delivered' } });
  });

  test('a fleet of nobody ends at once', async () => {
    expect(await fleet({ ids: [] }, { transport: new ScriptedTransport() }).request(payload).all()).toEqual([]);
  });
});

describe('the pace', () => {
  test('no more than `concurrency` are on their way at once', async () => {
    const transport = new ScriptedTransport();
    const run = fleet({ ids: ids(7) }, { transport, concurrency: 3 })
      .request(payload)
      .all();
    await settled();
    for (let begun = 3; begun < 7; begun++) {
      expect(transport.sent).toHaveLength(begun);
      succeed(transport.sent[begun - 3]!);
      await settled();
    }
    for (const sent of transport.sent.slice(4)) succeed(sent);
    expect(await run).toHaveLength(7);
  });

  test('a reader that is slow slows it down', async () => {
    const transport = new ScriptedTransport(succeed);
    const run = fleet({ ids: ids(100) }, { transport, concurrency: 4 })
      .request(payload)
      [Symbol.asyncIterator]();
    await run.next();
    await settled();
    expect(transport.sent.length).toBeLessThanOrEqual(8);
    await run.return?.();
  });

  test('no more than `ratePerSecond` begin in a second', async () => {
    const clock = new ManualClock();
    const transport = new ScriptedTransport(succeed);
    const run = fleet({ ids: ids(5) }, { transport, clock, ratePerSecond: 10 })
      .request(payload)
      .all();
    await settled();
    const begun: number[] = [transport.sent.length];
    for (let i = 0; i < 8; i++) {
      clock.advance(50);
      await settled();
      begun.push(transport.sent.length);
    }
    await run;
    expect(begun[0]).toBe(1);
    expect(begun.at(-1)).toBe(5);
    for (let i = 2; i < begun.length; i++) expect(begun[i]! - begun[i - 2]!).toBeLessThanOrEqual(1);
  });

  test('a run does not fall asleep when its turn comes between two looks at the clock', async () => {
    class MovingClock extends ManualClock {
      override monotonic(): number {
        this.advance(1);
        return super.monotonic();
      }
    }
    const transport = new ScriptedTransport(succeed);
    const clock = new MovingClock();
    const run = fleet({ ids: ids(20) }, { transport, clock, ratePerSecond: 100 })
      .request(payload)
      .all();
    for (let i = 0; i < 40; i++) {
      await settled();
      clock.advance(10);
    }
    expect(transport.sent.length).toBe(20);
    await run;
  });

  test('after too many failures the rest is skipped, and what is on its way is told', async () => {
    const transport = new ScriptedTransport();
    const run = fleet({ ids: ids(6) }, { transport, concurrency: 3, abortAfterFailures: 2 })
      .request(payload)
      .all();
    await settled();
    fail(transport.sent[0]!);
    await settled();
    fail(transport.sent[1]!);
    await settled();
    for (const sent of transport.sent.slice(2)) succeed(sent);
    expect((await run).map(({ outcome }) => outcome)).toEqual([
      'failed',
      'failed',
      'succeeded',
      'succeeded',
      'skipped',
      'skipped',
    ]);
  });

  test('a ratio of failures is looked at once ten have ended', async () => {
    const transport = new ScriptedTransport((sent) =>
      Number(sent.command.clientId.slice(5)) % 2 ? fail(sent) : succeed(sent),
    );
    const options = { transport, concurrency: 1, abortAfterFailureRatio: 0.4 };
    expect(
      await fleet({ ids: ids(50) }, options)
        .request(payload)
        .summary(),
    ).toMatchObject({
      succeeded: 5,
      failed: 5,
      skipped: 40,
    });
  });

  test('aborting cancels what is on its way and skips the rest', async () => {
    const abort = new AbortController();
    const transport = new ScriptedTransport();
    const run = fleet({ ids: ids(4) }, { transport, concurrency: 2, signal: abort.signal })
      .request(payload)
      .all();
    await settled();
    abort.abort();
    expect(transport.sent.map(({ log }) => log)).toEqual([['cancel'], ['cancel']]);
    for (const sent of transport.sent) sent.end('cancelled', { code: 'cancelled', message: '' });
    expect((await run).map(({ outcome }) => outcome)).toEqual(['cancelled', 'cancelled', 'skipped', 'skipped']);
  });

  test('leaving the loop begins no more', async () => {
    const transport = new ScriptedTransport(succeed);
    for await (const _ of fleet({ ids: ids(50) }, { transport, concurrency: 2 }).request(payload)) break;
    await settled();
    expect(transport.sent.length).toBeLessThanOrEqual(3);
  });

  test('a run is sent once, however often it is iterated', async () => {
    const transport = new ScriptedTransport(succeed);
    const run = fleet({ ids: ids(2) }, { transport }).request(payload);
    await run.all();
    await expect(run.all()).rejects.toThrow('it would send all again');
    expect(transport.sent).toHaveLength(2);
  });

  test.each([
    [{ concurrency: 0 }, 'concurrency is 0'],
    [{ ratePerSecond: 0 }, 'ratePerSecond is 0'],
    [{ ratePerSecond: Number.NaN }, 'ratePerSecond is NaN'],
    [{ abortAfterFailures: 0 }, 'abortAfterFailures is 0'],
    [{ abortAfterFailureRatio: 1 }, 'abortAfterFailureRatio is 1'],
    [{ timeoutMs: -1 }, 'timeoutMs is -1'],
  ])('%j is refused', (options, message) => {
    expect(() => fleet({ all: true }, options)).toThrow(message);
  });
});

describe('what is sent', () => {
  test('is encoded once for all', async () => {
    let encoded = 0;
    const encode = (text: string): Uint8Array => {
      encoded++;
      return Buffer.from(text);
    };
    const codec: CommandCodec<string> = { type: 'my.Text', encode, decode: String };
    const transport = new ScriptedTransport(succeed);
    await fleet({ ids: ids(20) }, { transport, codec })
      .request('go')
      .all();
    expect(encoded).toBe(1);
    expect(new Set(transport.sent.map(({ command }) => command.payload)).size).toBe(1);
    expect(new Set(transport.sent.map(({ command }) => command.id)).size).toBe(20);
  });

  test('a contract becomes one object: a partial configuration for all', async () => {
    const value = ConfigUpdateResponse.encode({ config: { maxRpm: 900 } }).finish();
    const transport = new ScriptedTransport((sent) =>
      sent.tell('queued').succeed({ type: 'signalbox.example.v1.ConfigUpdateResponse', value }),
    );
    const pumps = fleet({ ids: ids(2) }, { transport, timeoutMs: 500 }).client(PumpServiceDefinition);
    const outcomes = await pumps.configUpdate({ config: { maxRpm: 900 } }, { idempotent: true }).all();
    expect(outcomes).toEqual(
      ids(2).map((clientId) => ({ clientId, outcome: 'succeeded', result: { config: { maxRpm: 900 } } })),
    );
    const { command } = transport.last;
    expect(command).toMatchObject({ timeoutMs: 500, idempotent: true });
    expect(command.payload.type).toBe('signalbox.example.v1.PumpService/ConfigUpdate');
    expect(ConfigUpdateRequest.decode(command.payload.value)).toEqual({ config: { maxRpm: 900 } });
    expect(pumps).not.toHaveProperty('tailLog');
  });

  test('a request that cannot be encoded is refused before anybody is commanded', () => {
    const pumps = fleet({ ids: ids(2) }, { transport: new ScriptedTransport() }).client(PumpServiceDefinition);
    expect(() => pumps.start({ rpm: -1 })).toThrow(
      'the request of signalbox.example.v1.PumpService/Start is not valid',
    );
  });
});

test('types: outcomes carry the answers of the method or codec', () => {
  const typed = fleet({ all: true }, { codec: protoCodec(PumpCommand), result: protoCodec(PumpAnswer) });
  expectTypeOf(typed.request).returns.toEqualTypeOf<FleetRun<PumpAnswer>>();
  expectTypeOf(typed.send).returns.toEqualTypeOf<FleetRun<SendReceipt>>();
  const pumps = typed.client(PumpServiceDefinition);
  expectTypeOf(pumps.configUpdate({})).toEqualTypeOf<FleetRun<ConfigUpdateResponse>>();
  const wrong = () => {
    // @ts-expect-error: streams of items are not for fleets
    pumps.tailLog({ lines: 1 });
    // @ts-expect-error: one id cannot be that of many commands
    typed.request({ kind: undefined }, { commandId: 'x' });
    // @ts-expect-error: not both
    fleet({ some: true });
  };
  expect(wrong).toBeTypeOf('function');
});
