import { HubError } from '../errors.ts';
import { encodeMessage } from '../protocol/codec.ts';
import type { CommandUpdate } from '../protocol/command.ts';
import { updateToProto } from '../protocol/convert.ts';
import { SendCommandToClientRequest, SendCommandToClientResponse } from '../protocol/gen/signalbox/v1/command.ts';
import { withMessageRoom } from '../protocol/message-splitter.ts';
import { sendPath } from './command-calls.ts';
import { commandOf, type ServedHub } from './command-service.ts';
import type { PlainCall, PlainMethod } from './plain-call.ts';

/** `SendCommandToClient` once more, for plain calls: the one method that is called thousands of times a second. */
export function sendCommandToClient(hub: ServedHub): PlainMethod {
  return {
    path: sendPath,
    serve(call, bytes) {
      const request = decode(bytes);
      const command = commandOf(request, call.principal);
      // One that waits for its client is taken back when its caller leaves; a shortcut has no way to do that.
      if (request.brief && command.whenOffline === 'fail' && command.waitForConnectMs === 0 && hub.settle) {
        hub.settle(command, (end) => call.end(encode(end))).catch((thrown: unknown) => call.fail(thrown));
        return;
      }
      call.respond();
      // Without a signal: a caller who leaves stops watching, and its command goes on.
      void tell(call, hub.send(command, { brief: request.brief }));
    },
  };
}

async function tell(call: PlainCall, updates: AsyncIterable<CommandUpdate>): Promise<void> {
  const iterator = updates[Symbol.asyncIterator]();
  // Not awaited: a generator's return() waits for what it is doing.
  call.onLeft = () => void Promise.resolve(iterator.return?.()).catch(() => undefined);
  try {
    while (!call.isOver) {
      const step = await iterator.next();
      if (step.done) call.end();
      else if (!call.write(encode(step.value))) await call.drained();
    }
  } catch (thrown) {
    call.fail(thrown);
  }
}

function decode(bytes: Buffer): SendCommandToClientRequest {
  try {
    return SendCommandToClientRequest.decode(bytes);
  } catch (error) {
    throw new HubError('invalid-argument', 'the request is not a SendCommandToClientRequest', { cause: error });
  }
}

const encode = (update: CommandUpdate): Buffer =>
  withMessageRoom(encodeMessage(SendCommandToClientResponse, { update: updateToProto(update) }));
