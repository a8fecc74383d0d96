import { HubError, toHubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { eachAddress } from '../protocol/addresses.ts';
import { type Command, type CommandUpdate, isTerminalUpdate } from '../protocol/command.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import { type ConnectOptions, callToken, channelParts } from './channel.ts';
import { GrpcJsCallerWire } from './grpc-js-caller-wire.ts';
import { Http2CallerWire } from './http2-caller-wire.ts';
import { RemoteCommand, type RemoteRoad } from './remote-command.ts';

export interface GrpcTransportOptions extends ConnectOptions {
  readonly clock?: Clock | undefined;
  /** For the spread of reconnects. Default: Math.random. */
  readonly random?: (() => number) | undefined;
  /**
   * Commands that may be under way at once; more are refused with `resource-exhausted`. Beyond what the hub allows for one
   * connection (10000) they would wait without a word. Default: 8000.
   */
  readonly maxRunning?: number | undefined;
}

/** The road of commands to a hub in another process. */
export interface GrpcTransport extends Required<CommandTransport>, AsyncDisposable {
  /** Closes the connection. Commands on their way go on at the hub; here they end with `unavailable`. */
  close(): Promise<void>;
}

/**
 * Sends commands by `SendCommandToClient`, with the same updates as the hub itself. One connection for all; it opens
 * with the first command and comes back by itself. A command whose connection broke is found again by its id, for as
 * long as it can still live. Of several addresses one is used at a time, and another one when that hub cannot be
 * reached: also for commands that were sent by the first. Throws `invalid-argument` for an address that is none.
 */
export function grpcTransport(options: GrpcTransportOptions): GrpcTransport {
  const { token, connectTimeoutMs = 10_000, clock = systemClock, random = Math.random } = options;
  const { maxRunning = 8_000 } = options;
  const address = eachAddress(options.address).join(',');
  if (!(maxRunning >= 1)) throw new HubError('invalid-argument', `maxRunning is ${maxRunning}, the least is 1`);
  // Checks the address and the certificate for both wires.
  const parts = channelParts(options);
  // Each caller in an order of its own, so that they do not all come to one hub.
  const targets = shuffled(parts.targets, random);
  const wire =
    options.channelOptions === undefined
      ? new Http2CallerWire({ addresses: targets, tls: options.tls, connectTimeoutMs, clock })
      : new GrpcJsCallerWire({ ...parts, targets, connectTimeoutMs, clock });
  const running = new Set<RemoteCommand>();
  const road: RemoteRoad = { address, wire, token: callToken(token), clock, random, running };
  let isClosed = false;
  const close = async (): Promise<void> => {
    if (isClosed) return;
    isClosed = true;
    for (const one of [...running])
      one.fail(new HubError('unavailable', `the connection to ${address} was closed here`));
    wire.close();
  };
  const open = (command: Command, signal: AbortSignal | undefined, isBrief: boolean): AsyncIterator<CommandUpdate> => {
    if (isClosed) return failing(new HubError('unavailable', `the connection to ${address} was closed here`));
    if (running.size >= maxRunning)
      return failing(
        new HubError('resource-exhausted', `${maxRunning} commands are under way to ${address}, the limit`, {
          retryAfterMs: 1000,
        }),
      );
    return start(road, command, signal, isBrief);
  };
  return {
    send(command, { signal, brief = false } = {}) {
      return { [Symbol.asyncIterator]: () => open(command, signal, brief) };
    },
    async settle(command, read) {
      const updates = open(command, undefined, true);
      let update: CommandUpdate | undefined;
      do {
        ({ value: update } = await updates.next());
        if (update === undefined) throw new HubError('unavailable', `${address} told no end of command ${command.id}`);
      } while (!isTerminalUpdate(update));
      return read(update);
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => ({ item, place: random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}

function start(
  road: RemoteRoad,
  command: Command,
  signal: AbortSignal | undefined,
  isBrief: boolean,
): AsyncIterator<CommandUpdate> {
  try {
    return new RemoteCommand(road, command, signal, isBrief);
  } catch (thrown) {
    // A value that the generated code cannot encode.
    return failing(new HubError('invalid-argument', toHubError(thrown).message, { cause: thrown }));
  }
}

function failing(error: HubError): AsyncIterator<CommandUpdate> {
  return { next: () => Promise.reject(error) };
}
