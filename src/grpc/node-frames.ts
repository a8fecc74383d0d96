import type { LiveClient, MovedCommand } from '../cluster/index.ts';
import { HubError, type HubErrorCode } from '../errors.ts';
import type { CommandRecord } from '../protocol/command.ts';
import { commandFromProto, commandToProto, updateFromProto, updateToProto } from '../protocol/convert.ts';
import type { NodeAnswer, NodeAsk, NodeClient, NodeCommand, NodeError } from '../protocol/gen/signalbox/v1/node.ts';
import { grpcStatus } from './status.ts';

export type AskBody = NonNullable<NodeAsk['body']>;
export type AnswerBody = NonNullable<NodeAnswer['body']>;

export function nodeCommandToProto(moved: MovedCommand | CommandRecord): NodeCommand {
  const { command, acceptedAtMs, last } = moved;
  return {
    tenant: command.tenant,
    command: commandToProto(command),
    acceptedAtMs,
    last: updateToProto(last),
    journal: 'journal' in moved ? moved.journal : undefined,
    cancelReason: 'cancelReason' in moved ? moved.cancelReason : undefined,
  };
}

/** Throws `invalid-argument` on what is none. */
export function nodeCommandFromProto(message: NodeCommand): MovedCommand {
  if (!message.command) throw new HubError('invalid-argument', 'a command of a node is missing');
  return {
    command: commandFromProto(message.command, message.tenant),
    acceptedAtMs: message.acceptedAtMs,
    last: updateFromProto(message.last),
    journal: message.journal,
    cancelReason: message.cancelReason,
  };
}

export function nodeClientToProto(client: LiveClient | undefined): NodeClient {
  return {
    isKnown: client !== undefined,
    connected: client?.connected ?? false,
    lastSeenAtMs: client?.lastSeenAtMs ?? 0,
    roundTripMs: client?.roundTripMs,
    pendingCommands: client?.pendingCommands ?? 0,
  };
}

export function nodeClientFromProto(message: NodeClient): LiveClient | undefined {
  if (!message.isKnown) return undefined;
  const { connected, lastSeenAtMs, roundTripMs, pendingCommands } = message;
  return { connected, lastSeenAtMs: lastSeenAtMs || undefined, roundTripMs, pendingCommands };
}

export function nodeErrorToProto({ code, message, retryAfterMs, commandId }: HubError): NodeError {
  return { code, message, retryAfterMs: Math.ceil(retryAfterMs ?? 0), commandId: commandId ?? '' };
}

export function nodeErrorFromProto({ code, message, retryAfterMs, commandId }: NodeError): HubError {
  return new HubError(Object.hasOwn(grpcStatus, code) ? (code as HubErrorCode) : 'internal', message, {
    ...(retryAfterMs > 0 && { retryAfterMs }),
    ...(commandId !== '' && { commandId }),
  });
}
