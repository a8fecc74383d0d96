import { getEventListeners } from 'node:events';
import { describe, expect, expectTypeOf, test } from 'vitest';
import { type SendReceipt, StreamingCommandClient } from '../../src/commands/index.ts';
import { HubError } from '../../src/errors.ts';
import { type CommandCodec, protoCodec } from '../../src/protocol/codec.ts';
import type { CommandUpdate, Payload } from '../../src/protocol/command.ts';
import { PumpAnswer, PumpCommand } from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { ManualClock, ScriptedTransport, settled } from './scripted-transport.ts';

class PumpClient extends StreamingCommandClient<PumpCommand, PumpAnswer> {
  start(rpm: number) {
    return this.request({ kind: { $case: 'start', value: { rpm } } });
  }
  stop() {
    return this.request({ kind: { $case: 'stop', value: {} } });
  }
}

const answer = protoCodec(PumpAnswer);
const startCommand: PumpCommand = { kind: { $case: 'start', value: { rpm: 1200 } } };
const startAnswer: PumpAnswer = { kind: { $case: 'start', value: { rpm: 1200 } } };
const startPayload = { type: answer.type, value: answer.encode(startAnswer) };

function pumpOn(transport: ScriptedTransport, clock = new ManualClock()): PumpClient {
  return new PumpClient({ clientId: 'pump-7', codec: protoCodec(PumpCommand), result: answer, transport, clock });
}

const errorOf = (promise: Promise<unknown>): Promise<HubError> =>
  promise.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: HubError) => error,
  );

describe('request', () => {
  test('resolves with what the device answered, decoded', async () => {
    const transport = new ScriptedTransport((sent) =>
      sent.tell('queued', 'sent', 'delivered', 'started').succeed(startPayload),
    );
    expect(await pumpOn(transport).start(1200)).toEqual(startAnswer);
    const { command } = transport.last;
    expect(command).toMatchObject({
      tenant: 'default',
      clientId: 'pump-7',
      whenOffline: 'fail',
      timeoutMs: 30_000,
      waitForConnectMs: 0,
      idempotent: false,
    });
    expect(command.id).toMatch(/^[0-9a-f-]{36}$/);
    expect(command.payload.type).toBe('signalbox.example.v1.PumpCommand');
    expect(PumpCommand.decode(command.payload.value)).toEqual(startCommand);
  });

  test.each([
    ['failed', 'command-failed', 'failed'],
    ['rejected', 'command-rejected', 'was rejected'],
    ['cancelled', 'command-cancelled', 'was cancelled'],
    ['expired', 'command-expired', 'expired'],
    ['unknown', 'outcome-unknown', 'has an unknown outcome'],
  ] as const)('a command that ends as %s throws %s with the word of the device', async (state, code, said) => {
    const transport = new ScriptedTransport((sent) =>
      sent.tell('queued').end(state, { code: 'jam', message: 'rotor stuck' }),
    );
    const error = await errorOf(pumpOn(transport).start(1));
    const { id } = transport.last.command;
    expect(error).toBeInstanceOf(HubError);
    expect(error).toMatchObject({ code, deviceCode: 'jam', commandId: id });
    expect(error.message).toBe(`command ${id} to client pump-7 ${said}: rotor stuck`);
  });

  test('what the hub says before acceptance comes through as it is', async () => {
    const offline = new HubError('client-offline', 'no live stream for client pump-7');
    const transport = new ScriptedTransport((sent) => sent.updates.fail(offline));
    expect(await errorOf(pumpOn(transport).start(1))).toBe(offline);
  });

  test('a road that breaks after acceptance is an unknown outcome, not an invitation to send again', async () => {
    const transport = new ScriptedTransport((sent) => {
      sent.tell('queued', 'sent');
      sent.updates.fail(new HubError('unavailable', 'connection reset'));
    });
    const error = await errorOf(pumpOn(transport).start(1));
    expect(error).toMatchObject({ code: 'outcome-unknown', commandId: transport.last.command.id });
    expect(error.message).toContain('it may have been run: connection reset');
  });

  test('a road that ends without an end throws instead of hanging', async () => {
    const silent = new ScriptedTransport((sent) => sent.updates.end());
    expect(await errorOf(pumpOn(silent).start(1))).toMatchObject({ code: 'unavailable' });
    const accepted = new ScriptedTransport((sent) => sent.tell('queued').updates.end());
    expect(await errorOf(pumpOn(accepted).start(1))).toMatchObject({ code: 'outcome-unknown' });
  });

  test('old fault: a send-and-wait without an answer ends by itself and leaves nothing behind', async () => {
    const clock = new ManualClock();
    const transport = new ScriptedTransport((sent) => sent.tell('queued', 'sent'));
    const { signal } = new AbortController();
    const waiting = errorOf(
      new PumpClient({ clientId: 'pump-7', codec: protoCodec(PumpCommand), result: answer, transport, clock }).request(
        startCommand,
        { timeoutMs: 1000, signal },
      ),
    );
    await settled();
    clock.advance(2900);
    await settled();
    expect(transport.last.log).toEqual([]); // the hub's own word has a moment to come
    clock.advance(200);
    const error = await waiting;
    expect(error).toMatchObject({ code: 'deadline-exceeded', commandId: transport.last.command.id });
    expect(error.message).toContain('it may have been run');
    expect(transport.last.log).toEqual(['left']);
    expect(getEventListeners(signal, 'abort')).toHaveLength(1); // the transport's own, of this test
    clock.advance(100);
    expect(clock.pending).toBe(0);
  });

  test('a queued command is waited for no longer than timeoutMs, and lives on under the id that is named', async () => {
    const clock = new ManualClock();
    const transport = new ScriptedTransport((sent) => sent.tell('queued'));
    const waiting = errorOf(pumpOn(transport, clock).request(startCommand, { whenOffline: 'queue', timeoutMs: 500 }));
    await settled();
    clock.advance(600);
    const error = await waiting;
    const { id } = transport.last.command;
    expect(error).toMatchObject({ code: 'deadline-exceeded', commandId: id });
    expect(error.message).toBe(`no answer to command ${id} to client pump-7 within 500 ms; it is kept and lives on`);
    expect(transport.last.command).toMatchObject({ whenOffline: 'queue', timeoutMs: 0, ttlMs: 24 * 3600_000 });
    expect(transport.last.log).toEqual(['left']);
  });

  test('aborting asks for a cancel and tells what became of the command', async () => {
    const transport = new ScriptedTransport((sent) => sent.tell('queued', 'sent'));
    const abort = new AbortController();
    const cancelled = errorOf(pumpOn(transport).request(startCommand, { signal: abort.signal }));
    await settled();
    abort.abort();
    expect(transport.last.log).toEqual(['cancel']);
    transport.last.end('cancelled', { code: 'cancelled', message: 'by its caller' });
    expect(await cancelled).toMatchObject({ code: 'command-cancelled' });

    const late = new AbortController();
    const done = pumpOn(transport).request(startCommand, { signal: late.signal });
    await settled();
    late.abort();
    transport.last.succeed(startPayload);
    expect(await done).toEqual(startAnswer);
  });

  test('a cancel that nobody answers is an unknown outcome after five seconds', async () => {
    const clock = new ManualClock();
    const transport = new ScriptedTransport((sent) => sent.tell('queued', 'sent'));
    const abort = new AbortController();
    const waiting = errorOf(pumpOn(transport, clock).request(startCommand, { signal: abort.signal }));
    await settled();
    abort.abort();
    clock.advance(5100);
    expect(await waiting).toMatchObject({ code: 'outcome-unknown' });
  });

  test('a signal that is aborted already sends nothing', async () => {
    const transport = new ScriptedTransport();
    const error = await errorOf(pumpOn(transport).request(startCommand, { signal: AbortSignal.abort() }));
    expect(error.code).toBe('command-cancelled');
    expect(transport.sent).toEqual([]);
  });

  test('listeners on a long-lived signal are let go of after each command', async () => {
    const transport = new ScriptedTransport((sent) => sent.tell('queued').succeed(startPayload));
    const { signal } = new AbortController();
    for (let i = 0; i < 50; i++) await pumpOn(transport).request(startCommand, { signal });
    // One each is the scripted transport's own.
    expect(getEventListeners(signal, 'abort')).toHaveLength(50);
  });

  test('an answer of another type, or one that cannot be read, names the command', async () => {
    const other = new ScriptedTransport((sent) =>
      sent.tell('queued').succeed({ type: 'a.B', value: new Uint8Array() }),
    );
    const error = await errorOf(pumpOn(other).start(1));
    const { id } = other.last.command;
    expect(error).toMatchObject({ code: 'internal', commandId: id });
    expect(error.message).toBe(`the answer to command ${id} is a a.B, not a signalbox.example.v1.PumpAnswer`);
    const broken = new ScriptedTransport((sent) =>
      sent.tell('queued').succeed({ type: answer.type, value: Uint8Array.of(0xff) }),
    );
    expect(await errorOf(pumpOn(broken).start(1))).toMatchObject({
      code: 'internal',
      commandId: broken.last.command.id,
    });
  });

  test('without a result codec the payload comes as the device sent it', async () => {
    const transport = new ScriptedTransport((sent) => sent.tell('queued').succeed(startPayload));
    const client = new StreamingCommandClient({ clientId: 'p', codec: protoCodec(PumpCommand), transport });
    expect(await client.request(startCommand)).toEqual(startPayload);
  });
});

describe('send', () => {
  test('resolves when the device has acknowledged, not when it was put on a queue', async () => {
    const transport = new ScriptedTransport((sent) => sent.tell('queued', 'sent'));
    let receipt: SendReceipt | undefined;
    const sending = pumpOn(transport)
      .send(startCommand)
      .then((r) => {
        receipt = r;
      });
    await settled();
    expect(receipt).toBeUndefined();
    transport.last.tell('delivered');
    await sending;
    expect(receipt).toEqual({ commandId: transport.last.command.id, state: 'delivered' });
    expect(transport.last.log).toEqual(['left']);
  });

  test('a queued command resolves once it is stored', async () => {
    const transport = new ScriptedTransport((sent) => sent.tell('queued'));
    expect(await pumpOn(transport).send(startCommand, { whenOffline: 'queue' })).toMatchObject({ state: 'queued' });
  });

  test('with a known idempotency key the receipt names the command that was accepted first', async () => {
    const transport = new ScriptedTransport((sent) => {
      sent.commandId = 'first';
      sent.tell('queued');
    });
    const receipt = await pumpOn(transport).send(startCommand, { whenOffline: 'queue', idempotencyKey: 'k' });
    expect(receipt.commandId).toBe('first');
    expect(transport.last.command.idempotencyKey).toBe('k');
  });

  test('throws when the command ended before it was delivered', async () => {
    const transport = new ScriptedTransport((sent) =>
      sent.tell('queued').end('expired', { code: 'timed-out', message: '' }),
    );
    const error = await errorOf(pumpOn(transport).send(startCommand));
    expect(error.code).toBe('command-expired');
    expect(error.message).toMatch(/expired: timed-out$/);
  });

  test('a device that answered has been delivered to, whatever it answered', async () => {
    const transport = new ScriptedTransport((sent) =>
      sent.tell('queued', 'sent').end('failed', { code: 'x', message: 'y' }),
    );
    expect(await pumpOn(transport).send(startCommand)).toMatchObject({ state: 'failed' });
  });
});

describe('updates', () => {
  const collect = async (updates: AsyncIterable<CommandUpdate>): Promise<string[]> => {
    const states: string[] = [];
    for await (const update of updates) states.push(update.state);
    return states;
  };

  test('tells every update; a failure is told and not thrown', async () => {
    const transport = new ScriptedTransport((sent) =>
      sent.tell('queued', 'sent').progress({ fraction: 0.5 }).end('failed', { code: 'x', message: 'y' }),
    );
    expect(await collect(pumpOn(transport).updates(startCommand))).toEqual(['queued', 'sent', 'progress', 'failed']);
  });

  test('leaving the loop stops the watching, not the command', async () => {
    const transport = new ScriptedTransport((sent) => sent.tell('queued', 'sent'));
    for await (const _ of pumpOn(transport).updates(startCommand)) break;
    expect(transport.last.log).toEqual(['left']);
  });

  test('nothing is sent before the iteration begins', () => {
    const transport = new ScriptedTransport();
    pumpOn(transport).updates(startCommand);
    expect(transport.sent).toEqual([]);
  });

  test('a live command on a road that falls silent ends with deadline-exceeded', async () => {
    const clock = new ManualClock();
    const transport = new ScriptedTransport((sent) => sent.tell('queued'));
    const waiting = errorOf(collect(pumpOn(transport, clock).updates(startCommand, { timeoutMs: 1000 })));
    await settled();
    clock.advance(3100);
    expect(await waiting).toMatchObject({ code: 'deadline-exceeded' });
    expect(clock.pending).toBe(0);
    expect(transport.last.log).toEqual(['left']);
  });

  test('a road that breaks on the way says so', async () => {
    const transport = new ScriptedTransport((sent) => {
      sent.tell('queued');
      sent.updates.fail(new HubError('unavailable', 'gone'));
    });
    expect(await errorOf(collect(pumpOn(transport).updates(startCommand)))).toMatchObject({ code: 'outcome-unknown' });
  });
});

describe('options', () => {
  test.each([
    [{ timeoutMs: 0 }, 'timeoutMs is 0: it has to be a whole number of milliseconds from 1 to 2147483647'],
    [{ timeoutMs: Number.NaN }, 'timeoutMs is NaN'],
    [{ timeoutMs: 1.5 }, 'timeoutMs is 1.5'],
    [{ timeoutMs: 2 ** 31 }, 'timeoutMs is 2147483648'],
    [{ waitForConnectMs: -1 }, 'waitForConnectMs is -1'],
    [{ ttlMs: 0 }, 'ttlMs is 0'],
    [{ ttlMs: 2 ** 63 }, 'ttlMs is 9223372036854776000'],
    [{ finishWithinMs: -5 }, 'finishWithinMs is -5'],
    [{ idempotencyKey: '' }, 'idempotencyKey is ""'],
    [{ orderingKey: 'a\nb' }, 'orderingKey is "a\\nb"'],
    [{ coalesceKey: 'config' }, 'coalesceKey is "config": it has to be used with whenOffline: \'queue\''],
    [{ commandId: 'a b' }, 'command id "a b" is not valid'],
    [{ whenOffline: 'later' as 'queue' }, "whenOffline is \"later\": it has to be 'fail' or 'queue'"],
    [{ idempotent: 'yes' as unknown as boolean }, 'idempotent is "yes"'],
  ])('%j is refused before anything is sent', async (options, message) => {
    const transport = new ScriptedTransport();
    const error = await errorOf(pumpOn(transport).request(startCommand, options));
    expect(error.code).toBe('invalid-argument');
    expect(error.message).toContain(message);
    expect(transport.sent).toEqual([]);
  });

  test.each(['', '../x', 'a{}', '*', 'x'.repeat(129), 'a\u0000', undefined as unknown as string])(
    'the client id %j is refused',
    (clientId) => {
      expect(() => new PumpClient({ clientId, codec: protoCodec(PumpCommand), result: answer })).toThrow(/client ?id/i);
    },
  );

  test('a client without a codec is refused when it is made', () => {
    const nothing = undefined as unknown as CommandCodec<string>;
    expect(() => new StreamingCommandClient({ clientId: 'p', codec: nothing })).toThrow('codec is undefined');
  });

  test('defaults hold for every command and are overridden by its own options', async () => {
    const transport = new ScriptedTransport((sent) => sent.tell('queued', 'delivered'));
    const client = new PumpClient({
      clientId: 'p',
      tenant: 'acme',
      codec: protoCodec(PumpCommand),
      result: answer,
      transport,
      defaults: { timeoutMs: 5000, orderingKey: 'k', waitForConnectMs: 100 },
    });
    await client.send(startCommand, { timeoutMs: 700, orderingKey: undefined, idempotent: true });
    expect(transport.last.command).toMatchObject({
      tenant: 'acme',
      timeoutMs: 700,
      orderingKey: 'k',
      waitForConnectMs: 100,
      idempotent: true,
    });
  });

  test('a value that cannot be encoded is refused naming the type', async () => {
    const transport = new ScriptedTransport();
    const error = await errorOf(pumpOn(transport).start(-1));
    expect(error.code).toBe('invalid-argument');
    expect(error.message).toContain('cannot encode signalbox.example.v1.PumpCommand');
    const failing: CommandCodec<string> = {
      type: 'my.Text',
      encode: () => {
        throw new TypeError('no bytes');
      },
      decode: String,
    };
    const client = new StreamingCommandClient({ clientId: 'p', codec: failing, transport });
    expect((await errorOf(client.request('x'))).message).toBe('cannot encode my.Text: no bytes');
  });
});

test('types: commands, answers and options are checked where they are written', () => {
  const client = pumpOn(new ScriptedTransport());
  expectTypeOf(client.start).returns.resolves.toEqualTypeOf<PumpAnswer>();
  expectTypeOf(client.send).returns.resolves.toEqualTypeOf<SendReceipt>();
  expectTypeOf(client.updates).returns.toEqualTypeOf<AsyncIterable<CommandUpdate>>();
  const untyped = new StreamingCommandClient({ clientId: 'p', codec: protoCodec(PumpCommand) });
  expectTypeOf(untyped).toEqualTypeOf<StreamingCommandClient<PumpCommand, Payload>>();
  expectTypeOf(untyped.request).returns.resolves.toEqualTypeOf<Payload>();
  const wrong = () => {
    // @ts-expect-error: no such command
    void client.request({ kind: { $case: 'explode', value: {} } });
    // @ts-expect-error: rpm is a number
    void client.request({ kind: { $case: 'start', value: { rpm: 'fast' } } });
    // @ts-expect-error: no such option
    void client.request(startCommand, { timeout: 5 });
    // @ts-expect-error: the codec is of another type than the client
    new StreamingCommandClient<PumpAnswer>({ clientId: 'p', codec: protoCodec(PumpCommand) });
    // @ts-expect-error: one command id cannot serve all commands of a client
    new StreamingCommandClient({ clientId: 'p', codec: protoCodec(PumpCommand), defaults: { commandId: 'x' } });
  };
  expect(wrong).toBeTypeOf('function');
});
