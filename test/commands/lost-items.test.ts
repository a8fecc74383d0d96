import { expect, test } from 'vitest';
import { commandClient } from '../../src/commands/index.ts';
import type { Command, CommandUpdate } from '../../src/protocol/command.ts';
import type { CommandTransport } from '../../src/protocol/command-transport.ts';
import { PumpServiceDefinition, TailLogResponse } from '../../src/protocol/gen/signalbox/example/v1/pump.ts';

/** A road that was broken while items 2 and 3 came. */
const broken: CommandTransport = {
  async *send({ id: commandId, clientId }: Command): AsyncGenerator<CommandUpdate> {
    const base = { commandId, clientId, atMs: 1 };
    yield { ...base, state: 'queued' };
    for (const itemNumber of [1, 4]) {
      const value = TailLogResponse.encode({ number: itemNumber, text: '' }).finish();
      const item = { type: TailLogResponse.$type, value };
      yield { ...base, state: 'progress', progress: { item, itemNumber } };
    }
    yield { ...base, state: 'succeeded', result: { type: '', value: new Uint8Array() } };
  },
};

test('items that were lost with a connection end the iteration with an error: a hole is never silent', async () => {
  const pump = commandClient(PumpServiceDefinition, { clientId: 'pump-7', transport: broken });
  const read: number[] = [];
  const reading = (async () => {
    for await (const { number } of pump.tailLog({ lines: 9 })) read.push(number);
  })();
  await expect(reading).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/^items 2 to 3 of command .* were lost/),
  });
  expect(read).toEqual([1]);
});
