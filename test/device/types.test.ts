import { expect, expectTypeOf, test } from 'vitest';
import type { CommandContext, Device, ServiceImplementation } from '../../src/device/index.ts';
import { protoCodec } from '../../src/device/index.ts';
import {
  type ConfigUpdateRequest,
  PumpAnswer,
  PumpCommand,
  PumpServiceDefinition,
  type StartRequest,
} from '../../src/protocol/gen/signalbox/example/v1/pump.ts';

type Pump = ServiceImplementation<typeof PumpServiceDefinition>;

test('what a service asks for is known to the compiler', () => {
  expectTypeOf<keyof Pump>().toEqualTypeOf<'start' | 'stop' | 'configUpdate' | 'tailLog'>();
  expectTypeOf<Parameters<Pump['start']>>().toEqualTypeOf<[StartRequest, CommandContext]>();
  expectTypeOf<Parameters<Pump['configUpdate']>[0]>().toEqualTypeOf<ConfigUpdateRequest>();
  expectTypeOf<{ rpm?: number }>().toExtend<Awaited<ReturnType<Pump['start']>>>();
  expectTypeOf<AsyncIterable<{ number: number; text: string }>>().toExtend<ReturnType<Pump['tailLog']>>();
  expectTypeOf<{ text: string }[]>().not.toExtend<ReturnType<Pump['tailLog']>>();
});

test('wrong implementations do not compile', () => {
  expect(compileTime).toBeTypeOf('function');
});

// Compiled, never run.
function compileTime(device: Device): void {
  const stop = () => ({});
  const configUpdate = () => ({});
  async function* tailLog() {
    yield { text: 'a' };
  }
  device.implement(PumpServiceDefinition, {
    async start({ rpm }, { progress, signal }) {
      progress({ fraction: 0.5, note: 'spinning up' });
      signal.throwIfAborted();
      return { rpm };
    },
    stop,
    configUpdate: ({ config }) => ({ config: { ...config, maxRpm: 5 } }),
    tailLog,
  });
  // @ts-expect-error a method is missing
  device.implement(PumpServiceDefinition, { start: ({ rpm }) => ({ rpm }), stop, configUpdate });
  // @ts-expect-error there is no such method
  device.implement(PumpServiceDefinition, { start: ({ rpm }) => ({ rpm }), stop, configUpdate, tailLog, halt: stop });
  // @ts-expect-error the response has another type
  device.implement(PumpServiceDefinition, { start: async () => ({ rpm: 'fast' }), stop, configUpdate, tailLog });
  // @ts-expect-error the request has no such field
  device.implement(PumpServiceDefinition, { start: ({ speed }) => ({ rpm: speed }), stop, configUpdate, tailLog });
  // @ts-expect-error a streaming method returns an async iterable
  device.implement(PumpServiceDefinition, { start: ({ rpm }) => ({ rpm }), stop, configUpdate, tailLog: stop });

  device.handle(protoCodec(PumpCommand), ({ kind }) => {
    expectTypeOf(kind?.$case).toEqualTypeOf<'start' | 'stop' | 'configUpdate' | undefined>();
  });
  device.handle(protoCodec(PumpCommand), () => ({ kind: undefined }), { result: protoCodec(PumpAnswer) });
  // @ts-expect-error the result is no PumpAnswer
  device.handle(protoCodec(PumpCommand), () => 5, { result: protoCodec(PumpAnswer) });
}
