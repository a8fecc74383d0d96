import { HubError } from '../errors.ts';
import { type Command, type CommandUpdate, isTerminalUpdate } from '../protocol/command.ts';
import type { TellOptions } from '../protocol/command-transport.ts';
import type { ClientQuery } from './client-lister.ts';
import type { RemoteTransport } from './roads.ts';

/** A road that is loaded and opened with its first command, so that nobody loads gRPC without using it. */
export function lazyTransport(open: () => Promise<RemoteTransport>): RemoteTransport {
  let opening: Promise<RemoteTransport> | undefined;
  let opened: RemoteTransport | undefined;
  const road = (): Promise<RemoteTransport> => {
    opening ??= open().then((transport) => {
      opened = transport;
      return transport;
    });
    return opening;
  };
  return {
    send(command, options) {
      if (opened !== undefined) return opened.send(command, options);
      return { [Symbol.asyncIterator]: () => throughPromise(road(), command, options) };
    },
    async settle(command, read) {
      const transport = opened ?? (await road());
      if (transport.settle) return transport.settle(command, read);
      for await (const update of transport.send(command, { brief: true }))
        if (isTerminalUpdate(update)) return read(update);
      throw new HubError('unavailable', `the road told no end of command ${command.id}`, { commandId: command.id });
    },
    async listClients(query: ClientQuery) {
      const transport = await road();
      if (transport.listClients === undefined) throw new HubError('unimplemented', 'this road cannot list clients');
      return transport.listClients(query);
    },
    async close() {
      // One that could not be opened has told every command so, and has nothing to close.
      const transport = await opening?.catch(() => undefined);
      await transport?.close();
    },
  };
}

// Not a generator: the return() of one would wait for its pending next(), and the command would be watched on.
function throughPromise(
  road: Promise<RemoteTransport>,
  command: Command,
  options: TellOptions | undefined,
): AsyncIterator<CommandUpdate> {
  const inner = road.then((transport) => transport.send(command, options)[Symbol.asyncIterator]());
  inner.catch(() => undefined); // next() tells it
  return {
    next: async () => (await inner).next(),
    return: async () => (await (await inner).return?.()) ?? { done: true, value: undefined },
  };
}
