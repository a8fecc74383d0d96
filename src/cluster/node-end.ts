import { HubError } from '../errors.ts';
import type { Command, CommandUpdate } from '../protocol/command.ts';
import type { LocalHub } from './local-hub.ts';
import type { NodeLink } from './node-link.ts';

/** This node as the others use it: the other end of each link. */
export function nodeEnd(hub: LocalHub): NodeLink {
  /** The sender has looked up who holds the client; it looks again. */
  const refuseElsewhere = ({ tenant, clientId, id }: Command): void => {
    if (!hub.clients.isConnected(tenant, clientId))
      throw new HubError('client-offline', `client ${clientId} has no live stream`, { commandId: id });
  };
  return {
    send(command, options) {
      return {
        [Symbol.asyncIterator](): AsyncIterator<CommandUpdate> {
          try {
            refuseElsewhere(command);
          } catch (error) {
            return { next: () => Promise.reject(error) };
          }
          return hub.send(command, options)[Symbol.asyncIterator]();
        },
      };
    },
    async settle(command) {
      refuseElsewhere(command);
      return hub.settle(command, (end) => end);
    },
    watch: (tenant, commandId, options) => hub.watch(tenant, commandId, options),
    cancel: (tenant, commandId, reason, options) => hub.cancel(tenant, commandId, reason, options),
    get: (tenant, commandId, options) => hub.get(tenant, commandId, options),
    list: (filter) => hub.list(filter),
    async yield({ tenant, clientId }, epoch) {
      return hub.yield(tenant, clientId, epoch);
    },
    async client({ tenant, clientId }) {
      return hub.clients.get(tenant, clientId);
    },
    async disconnect({ tenant, clientId }, options) {
      return hub.clients.disconnect(tenant, clientId, options);
    },
  };
}
