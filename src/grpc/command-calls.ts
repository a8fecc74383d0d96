import type { CallOptions, Client, ClientReadableStream, Metadata, ServiceError } from '@grpc/grpc-js';
import { HubError } from '../errors.ts';
import type { Command, CommandUpdate } from '../protocol/command.ts';
import { commandToProto, updateFromProto } from '../protocol/convert.ts';
import {
  CancelCommandRequest,
  CancelCommandResponse,
  SendCommandToClientRequest,
  SendCommandToClientResponse,
  WatchCommandRequest,
  WatchCommandResponse,
} from '../protocol/gen/signalbox/v1/command.ts';

// The calls of CommandService that one command makes, straight on grpc-js.

const service = '/signalbox.v1.CommandService';
const maxUint32 = 2 ** 32 - 1;

/** The bytes that ask for a command, made once however often it is sent. Throws `invalid-argument` for a time that has no room in them. */
export function sendRequest(command: Command, isBrief: boolean): Buffer {
  for (const name of ['timeoutMs', 'waitForConnectMs'] as const)
    if (command[name] > maxUint32)
      throw new HubError('invalid-argument', `${name} is ${command[name]}, the most over gRPC is ${maxUint32}`);
  return toBuffer(SendCommandToClientRequest.encode({ command: commandToProto(command), brief: isBrief }).finish());
}

/** Sends a command, and hears its updates. */
export function callSend(
  client: Client,
  request: Buffer,
  metadata: Metadata,
  options: CallOptions,
): ClientReadableStream<CommandUpdate> {
  return client.makeServerStreamRequest(`${service}/SendCommandToClient`, asIs, sendUpdate, request, metadata, options);
}

/** Hears the updates of a command that was sent before. */
export function callWatch(
  client: Client,
  request: WatchCommandRequest,
  metadata: Metadata,
  options: CallOptions,
): ClientReadableStream<CommandUpdate> {
  return client.makeServerStreamRequest(
    `${service}/WatchCommand`,
    encodeWatch,
    watchUpdate,
    request,
    metadata,
    options,
  );
}

/** Asks for a cancel. */
export function callCancel(
  client: Client,
  request: CancelCommandRequest,
  metadata: Metadata,
  options: CallOptions,
  onAnswer: (error: ServiceError | null) => void,
): void {
  client.makeUnaryRequest(`${service}/CancelCommand`, encodeCancel, cancelAnswer, request, metadata, options, onAnswer);
}

const asIs = (bytes: Buffer): Buffer => bytes;
const encodeWatch = (request: WatchCommandRequest): Buffer => toBuffer(WatchCommandRequest.encode(request).finish());
const encodeCancel = (request: CancelCommandRequest): Buffer => toBuffer(CancelCommandRequest.encode(request).finish());
const sendUpdate = (bytes: Buffer): CommandUpdate => updateFromProto(SendCommandToClientResponse.decode(bytes).update);
const watchUpdate = (bytes: Buffer): CommandUpdate => updateFromProto(WatchCommandResponse.decode(bytes).update);
const cancelAnswer = (bytes: Buffer): CancelCommandResponse => CancelCommandResponse.decode(bytes);

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
