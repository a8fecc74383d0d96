import { expect, test } from 'vitest';
import type { RemoteTransport } from '../../src/commands/index.ts';
import { lazyTransport } from '../../src/commands/lazy-transport.ts';
import { HubError } from '../../src/errors.ts';
import type { Command } from '../../src/protocol/command.ts';
import { ScriptedTransport, settled } from './scripted-transport.ts';

const command = { id: 'c', clientId: 'p' } as Command;

function remote(script?: ConstructorParameters<typeof ScriptedTransport>[0]) {
  const scripted = new ScriptedTransport(script);
  let closed = 0;
  const transport: RemoteTransport = {
    send: (one, options) => scripted.send(one, options),
    close: () => void closed++,
  };
  return { scripted, transport, closed: () => closed };
}

test('the road is opened with the first command, once', async () => {
  const { scripted, transport } = remote((sent) => sent.tell('queued').succeed());
  let opened = 0;
  const lazy = lazyTransport(async () => {
    opened++;
    return transport;
  });
  expect(opened).toBe(0);
  const states: string[] = [];
  const read = async () => {
    for await (const { state } of lazy.send(command)) states.push(state);
  };
  await Promise.all([read(), read()]);
  await read();
  expect(states.sort()).toEqual(['queued', 'queued', 'queued', 'succeeded', 'succeeded', 'succeeded']);
  expect([opened, scripted.sent.length]).toEqual([1, 3]);
});

test('leaving while the first update is awaited lets go of the command', async () => {
  const { scripted, transport } = remote();
  const iterator = lazyTransport(async () => transport)
    .send(command)
    [Symbol.asyncIterator]();
  const pending = iterator.next();
  await settled();
  await iterator.return?.();
  expect(await pending).toEqual({ done: true, value: undefined });
  expect(scripted.last.log).toEqual(['left']);
});

test('a road that cannot be opened says so with every command', async () => {
  const lazy = lazyTransport(async () => {
    throw new HubError('invalid-argument', 'address "x" is not one');
  });
  for (let i = 0; i < 2; i++)
    await expect(lazy.send(command)[Symbol.asyncIterator]().next()).rejects.toThrow('address "x" is not one');
  await lazy.close();
});

test('closing closes what was opened, and opens nothing', async () => {
  const { transport, closed } = remote((sent) => sent.tell('queued').succeed());
  let opened = 0;
  const open = async (): Promise<RemoteTransport> => {
    opened++;
    return transport;
  };
  await lazyTransport(open).close();
  expect([opened, closed()]).toEqual([0, 0]);
  const used = lazyTransport(open);
  await used.send(command)[Symbol.asyncIterator]().next();
  await used.close();
  expect([opened, closed()]).toEqual([1, 1]);
});
