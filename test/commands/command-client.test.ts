import { describe, expect, expectTypeOf, test } from 'vitest';
import { commandClient, type SendReceipt } from '../../src/commands/index.ts';
import { HubError } from '../../src/errors.ts';
import type { CommandUpdate } from '../../src/protocol/command.ts';
import {
  PumpServiceDefinition,
  StartRequest,
  StartResponse,
  TailLogRequest,
  TailLogResponse,
} from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { ManualClock, ScriptedTransport, type SentCommand, settled } from './scripted-transport.ts';

const service = 'signalbox.example.v1';

function pumpOn(transport: ScriptedTransport) {
  return commandClient(PumpServiceDefinition, { clientId: 'pump-7', transport, clock: new ManualClock() });
}

const line = (number: number) => ({
  item: {
    type: `${service}.TailLogResponse`,
    value: TailLogResponse.encode(TailLogResponse.fromPartial({ number, text: `line ${number}` })).finish(),
  },
});

const answerRpm = (rpm: number) => (sent: SentCommand) => {
  sent.tell('queued', 'sent', 'delivered').succeed({
    type: `${service}.StartResponse`,
    value: StartResponse.encode({ rpm }).finish(),
  });
};

describe('a unary method', () => {
  test('sends its request under the name of the method and resolves to the response', async () => {
    const transport = new ScriptedTransport(answerRpm(1180));
    expect(await pumpOn(transport).start({ rpm: 1200 }, { timeoutMs: 900, idempotent: true })).toEqual({ rpm: 1180 });
    const { command } = transport.last;
    expect(command.payload.type).toBe(`${service}.PumpService/Start`);
    expect(StartRequest.decode(command.payload.value)).toEqual({ rpm: 1200 });
    expect(command).toMatchObject({ clientId: 'pump-7', timeoutMs: 900, idempotent: true });
  });

  test('fills in what is left out of a request', async () => {
    const transport = new ScriptedTransport(answerRpm(0));
    await pumpOn(transport).start({});
    expect(StartRequest.decode(transport.last.command.payload.value)).toEqual({ rpm: 0 });
  });

  test('works with messages that were generated without fromPartial', async () => {
    const { encode, decode } = StartRequest;
    const plain = {
      name: 'PlainService',
      fullName: 'my.PlainService',
      methods: {
        go: {
          name: 'Go',
          requestType: { $type: 'my.Go', encode, decode },
          requestStream: false,
          responseType: StartResponse,
          responseStream: false,
        },
      },
    } as const;
    const transport = new ScriptedTransport(answerRpm(7));
    const client = commandClient(plain, { clientId: 'p', transport });
    expect(await client.go({ rpm: 7 })).toEqual({ rpm: 7 });
    expect(transport.last.command.payload.type).toBe('my.PlainService/Go');
  });

  test('has send and updates beside it', async () => {
    const transport = new ScriptedTransport(answerRpm(1));
    const pump = pumpOn(transport);
    expect(await pump.start.send({ rpm: 1 })).toEqual({ commandId: transport.last.command.id, state: 'delivered' });
    const states: string[] = [];
    for await (const update of pump.start.updates({ rpm: 1 })) states.push(update.state);
    expect(states).toEqual(['queued', 'sent', 'delivered', 'succeeded']);
  });

  test.each([
    [{ rpm: -4 }, `the request of ${service}.PumpService/Start is not valid: cannot encode ${service}.StartRequest`],
    ['fast' as never, `the request of ${service}.PumpService/Start is fast: it has to be an object`],
    [undefined as never, 'is undefined: it has to be an object'],
  ])('refuses the request %j before anything is sent', async (request, message) => {
    const transport = new ScriptedTransport();
    await expect(pumpOn(transport).start(request)).rejects.toThrow(message);
    await expect(pumpOn(transport).start(request)).rejects.toMatchObject({ code: 'invalid-argument' });
    expect(transport.sent).toEqual([]);
  });
});

describe('a server-streaming method', () => {
  test('yields the items and ends with the command', async () => {
    const transport = new ScriptedTransport((sent) =>
      sent.tell('queued', 'started').progress(line(1)).progress({ fraction: 0.5 }).progress(line(2)).succeed(),
    );
    const numbers: number[] = [];
    for await (const { number } of pumpOn(transport).tailLog({ lines: 2 })) numbers.push(number);
    expect(numbers).toEqual([1, 2]);
    expect(transport.last.command.payload.type).toBe(`${service}.PumpService/TailLog`);
    expect(TailLogRequest.decode(transport.last.command.payload.value)).toEqual({ lines: 2, intervalMs: 0 });
    expect(transport.last.log).not.toContain('cancel');
  });

  test('throws at the end what went wrong, after the items that came before', async () => {
    const transport = new ScriptedTransport((sent) =>
      sent.tell('queued').progress(line(1)).end('failed', { code: 'disk', message: 'unreadable' }),
    );
    const numbers: number[] = [];
    const reading = (async () => {
      for await (const { number } of pumpOn(transport).tailLog({ lines: 2 })) numbers.push(number);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'command-failed', deviceCode: 'disk' });
    expect(numbers).toEqual([1]);
    expect(transport.last.log).not.toContain('cancel');
  });

  test('leaving the loop cancels the command, and only then lets go of it', async () => {
    const transport = new ScriptedTransport((sent) => sent.tell('queued').progress(line(1)).progress(line(2)));
    for await (const _ of pumpOn(transport).tailLog({ lines: 9 })) break;
    expect(transport.last.log).toEqual(['cancel', 'left']);
  });

  test('an item that cannot be read cancels the command and throws', async () => {
    const transport = new ScriptedTransport((sent) =>
      sent.tell('queued').progress({ item: { type: 'a.B', value: new Uint8Array() } }),
    );
    const reading = (async () => {
      for await (const _ of pumpOn(transport).tailLog({ lines: 9 }));
    })();
    await expect(reading).rejects.toThrow(/is a a\.B, not a .*TailLogResponse/);
    expect(transport.last.log).toEqual(['cancel', 'left']);
  });

  test('aborting the signal asks for a cancel and throws what became of it', async () => {
    const abort = new AbortController();
    const transport = new ScriptedTransport((sent) => sent.tell('queued'));
    const reading = (async () => {
      for await (const _ of pumpOn(transport).tailLog({ lines: 9 }, { signal: abort.signal }));
    })();
    reading.catch(() => undefined);
    await settled();
    abort.abort();
    expect(transport.last.log).toEqual(['cancel']);
    transport.last.end('cancelled', { code: 'cancelled', message: 'enough' });
    await expect(reading).rejects.toMatchObject({ code: 'command-cancelled' });
  });

  test('with a signal that is aborted already nothing is sent', async () => {
    const transport = new ScriptedTransport();
    const reading = (async () => {
      for await (const _ of pumpOn(transport).tailLog({ lines: 9 }, { signal: AbortSignal.abort() }));
    })();
    await expect(reading).rejects.toBeInstanceOf(HubError);
    expect(transport.sent).toEqual([]);
  });
});

const uploadService = {
  name: 'UploadService',
  fullName: 'my.UploadService',
  methods: {
    ...PumpServiceDefinition.methods,
    upload: {
      name: 'Upload',
      requestType: StartRequest,
      requestStream: true,
      responseType: StartResponse,
      responseStream: false,
    },
  },
} as const;

test('a client-streaming method is not in the type, and refused at run time', async () => {
  const client = commandClient(uploadService, { clientId: 'p', transport: new ScriptedTransport() });
  // @ts-expect-error: a command is one request
  await expect(client.upload({ rpm: 1 })).rejects.toMatchObject({
    code: 'unimplemented',
    message: 'my.UploadService/Upload takes a stream of requests; a command is a single one',
  });
});

test('a client is no promise: it can be returned from an async function', async () => {
  const transport = new ScriptedTransport(answerRpm(3));
  const pump = await (async () => pumpOn(transport))();
  expect(await pump.start({ rpm: 3 })).toEqual({ rpm: 3 });
});

test('types: methods, requests and responses follow from the definition', () => {
  const pump = pumpOn(new ScriptedTransport());
  expectTypeOf(pump.start({ rpm: 1 })).resolves.toEqualTypeOf<StartResponse>();
  expectTypeOf(pump.tailLog({ lines: 1 })).toEqualTypeOf<AsyncIterable<TailLogResponse>>();
  expectTypeOf(pump.start.send({ rpm: 1 })).resolves.toEqualTypeOf<SendReceipt>();
  expectTypeOf(pump.start.updates({})).toEqualTypeOf<AsyncIterable<CommandUpdate>>();
  const wrong = () => {
    // @ts-expect-error: no such method
    pump.explode({});
    // @ts-expect-error: no such field
    void pump.start({ speed: 1 });
    // @ts-expect-error: rpm is a number
    void pump.start({ rpm: 'fast' });
    // @ts-expect-error: fields of parts are checked too
    void pump.configUpdate({ config: { maxRpm: '1' } });
    // @ts-expect-error: no such option
    void pump.start({ rpm: 1 }, { timeout: 5 });
    // @ts-expect-error: a stream of items is not a promise of one
    void pump.tailLog({ lines: 1 }).then();
    // @ts-expect-error: the client id has to be given
    commandClient(PumpServiceDefinition, {});
  };
  void pump.configUpdate({ config: { maxRpm: 5 } }).catch(() => undefined);
  expect(wrong).toBeTypeOf('function');
});
