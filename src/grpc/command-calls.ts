import { HubError } from '../errors.ts';
import { encodeMessage, type MessageType } from '../protocol/codec.ts';
import type { Command, CommandUpdate } from '../protocol/command.ts';
import { commandToProto, updateFromProto } from '../protocol/convert.ts';
import {
  CancelCommandRequest,
  CommandServiceDefinition,
  SendCommandToClientRequest,
  SendCommandToClientResponse,
  WatchCommandRequest,
} from '../protocol/gen/signalbox/v1/command.ts';
import { withMessageRoom } from '../protocol/message-splitter.ts';

// The calls of CommandService that one command makes: their paths, and the bytes that go over the wire. Requests have room
// for a message's header in front.

const { fullName, methods } = CommandServiceDefinition;
export const sendPath = `/${fullName}/${methods.sendCommandToClient.name}`;
export const watchPath = `/${fullName}/${methods.watchCommand.name}`;
export const cancelPath = `/${fullName}/${methods.cancelCommand.name}`;

const maxUint32 = 2 ** 32 - 1;

/** Asks for a command; made once however often it is sent. Throws `invalid-argument` for a value that has no room in it. */
export function sendRequest(command: Command, isBrief: boolean): Buffer {
  for (const name of ['timeoutMs', 'waitForConnectMs'] as const)
    if (command[name] > maxUint32)
      throw new HubError('invalid-argument', `${name} is ${command[name]}, the most over gRPC is ${maxUint32}`);
  return encoded(SendCommandToClientRequest, { command: commandToProto(command), brief: isBrief });
}

/** Asks for the updates of a command that was sent before. */
export const watchRequest = (request: WatchCommandRequest): Buffer => encoded(WatchCommandRequest, request);

export const cancelRequest = (request: CancelCommandRequest): Buffer => encoded(CancelCommandRequest, request);

/** The update in an answer to a send or a watch, which have it in the same place. Throws for bytes that are none. */
export const updateIn = (answer: Buffer): CommandUpdate =>
  updateFromProto(SendCommandToClientResponse.decode(answer).update);

function encoded<T>(type: MessageType<T>, message: T): Buffer {
  return withMessageRoom(encodeMessage(type, message));
}
