import { requireScope } from '../auth/access.ts';
import type { Principal } from '../auth/principal.ts';
import { HubError } from '../errors.ts';
import { timeOrderedId } from '../flow/unique-id.ts';
import type { ClientInfo, ShownClients } from '../hub/client-info.ts';
import type { CommandFilter } from '../hub/command-store.ts';
import { checkClientId, checkCommandId } from '../protocol/checks.ts';
import type { Command, CommandRecord, CommandUpdate } from '../protocol/command.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';
import { commandFromProto, recordToProto, updateToProto } from '../protocol/convert.ts';
import { CommandServiceDefinition, type SendCommandToClientRequest } from '../protocol/gen/signalbox/v1/command.ts';
import type { DeviceStreamTaker } from './device-stream.ts';
import { mapIterable } from './map-iterable.ts';
import { type GrpcService, grpcService } from './service.ts';

/** What the gRPC end needs of the hub. */
export interface ServedHub extends CommandTransport, DeviceStreamTaker {
  readonly clients: ShownClients;
  readonly isDraining: boolean;
  /** `clientId` helps a hub of several nodes to find the command. */
  watch(
    tenant: string,
    commandId: string,
    options?: { signal?: AbortSignal; clientId?: string | undefined },
  ): AsyncIterable<CommandUpdate>;
  get(tenant: string, commandId: string, options?: { clientId?: string | undefined }): Promise<CommandRecord>;
  list(filter: CommandFilter): Promise<CommandRecord[]>;
  cancel(
    tenant: string,
    commandId: string,
    reason: string,
    options?: { clientId?: string | undefined },
  ): Promise<CommandUpdate>;
}

export type { ClientInfo };

/** What 0 means in a command that came from the wire, in ms. */
export const commandDefaults = {
  /** A live command's whole life. */
  timeoutMs: 30_000,
  /** How long a queued command may wait. */
  ttlMs: 24 * 3_600_000,
} as const;

const maxReasonLength = 1_024;

/** The road of callers in other processes. Needs the scope `commands:send`; the tenant is the credential's. */
export function commandService(hub: ServedHub): GrpcService {
  return grpcService(CommandServiceDefinition, {
    sendCommandToClient(request, { principal }) {
      const command = commandOf(request, principal);
      // grpc-js holds on to the request as long as the call lives: not to the bytes of the payload, too.
      request.command = undefined;
      // Without a signal: a caller who leaves stops watching, and its command goes on.
      const updates = hub.send(command, { brief: request.brief });
      return mapIterable(updates, (update) => ({ update: updateToProto(update) }));
    },

    watchCommand(request, { principal, signal }) {
      requireScope(principal, 'commands:send');
      checkCommandId(request.commandId);
      const options = { signal, clientId: clientIdOf(request) };
      return mapIterable(hub.watch(principal.tenant, request.commandId, options), (update) => ({
        update: updateToProto(update),
      }));
    },

    async cancelCommand(request, { principal }) {
      requireScope(principal, 'commands:send');
      checkCommandId(request.commandId);
      const reason = request.reason || `cancelled by ${principal.subject}`;
      if (reason.length > maxReasonLength)
        throw new HubError(
          'invalid-argument',
          `reason has ${reason.length} characters, the limit is ${maxReasonLength}`,
        );
      const options = { clientId: clientIdOf(request) };
      return { update: updateToProto(await hub.cancel(principal.tenant, request.commandId, reason, options)) };
    },

    async getCommand(request, { principal }) {
      requireScope(principal, 'commands:send');
      checkCommandId(request.commandId);
      const options = { clientId: clientIdOf(request) };
      return { record: recordToProto(await hub.get(principal.tenant, request.commandId, options)) };
    },

    async listCommands(request, { principal }) {
      requireScope(principal, 'commands:send');
      if (request.clientId !== '') checkClientId(request.clientId);
      if (request.pageSize > 1_000)
        throw new HubError('invalid-argument', `page_size ${request.pageSize} is above the limit of 1000`);
      const records = await hub.list({
        tenant: principal.tenant,
        ...(request.clientId !== '' && { clientId: request.clientId }),
        pendingOnly: request.pendingOnly,
        limit: request.pageSize || 100,
      });
      return { records: records.map(recordToProto) };
    },
  });
}

/** The command that a request brings. Needs the scope `commands:send`. Throws `invalid-argument` for one that cannot be. */
export function commandOf({ command }: SendCommandToClientRequest, principal: Principal): Command {
  requireScope(principal, 'commands:send');
  if (command === undefined) throw new HubError('invalid-argument', 'command is missing');
  return withDefaults(commandFromProto(command, principal.tenant));
}

/** What the caller says of the client, if anything. */
function clientIdOf({ clientId }: { readonly clientId: string }): string | undefined {
  if (clientId === '') return undefined;
  checkClientId(clientId);
  return clientId;
}

function withDefaults(command: Command): Command {
  const id = command.id || timeOrderedId(Date.now());
  if (command.whenOffline === 'fail')
    return { ...command, id, timeoutMs: command.timeoutMs || commandDefaults.timeoutMs };
  return { ...command, id, ttlMs: command.ttlMs || commandDefaults.ttlMs };
}
