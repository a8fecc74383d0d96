import type { CommandQuery, NodeInfo, NodeLink, NodeLinks } from '../cluster/index.ts';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { isTerminalUpdate, type TerminalUpdate } from '../protocol/command.ts';
import { commandToProto, updateFromProto } from '../protocol/convert.ts';
import { AskingLink } from './asking-link.ts';
import type { ClientTls } from './channel.ts';
import { clusterKey } from './link-proof.ts';
import { type AnswerBody, type AskBody, nodeClientFromProto, nodeCommandFromProto } from './node-frames.ts';

export interface GrpcNodeLinksOptions {
  /** At least 32 bytes, the same at all nodes. */
  readonly secret: string | Buffer;
  /** The instance that asks. */
  readonly instance: () => string;
  /** `true`: TLS with the system's authorities. Default: plain. */
  readonly tls?: ClientTls | true | undefined;
  /** How long a link may take to open, in ms. Default: 3000. */
  readonly connectTimeoutMs?: number | undefined;
  /** A link of which nothing is heard for twice this long is dead, in ms. Default: 5000. */
  readonly heartbeatMs?: number | undefined;
  readonly clock?: Clock | undefined;
}

/** Links to the other nodes over gRPC: one stream for each, that opens with the first use and again after a break. */
export function grpcNodeLinks(options: GrpcNodeLinksOptions): NodeLinks {
  const { secret, instance, tls, connectTimeoutMs = 3000, heartbeatMs = 5000, clock = systemClock } = options;
  const key = clusterKey(secret);
  const links = new Map<string, { link: AskingLink; end: NodeLink }>();
  return {
    to(node: NodeInfo) {
      let known = links.get(node.instance);
      if (!known) {
        const link = new AskingLink({ node, key, instance, tls, connectTimeoutMs, heartbeatMs, clock });
        known = { link, end: nodeLink(link) };
        links.set(node.instance, known);
      }
      return known.end;
    },
    keepOnly(instances) {
      for (const [id, { link }] of links) {
        if (instances.has(id)) continue;
        links.delete(id);
        link.close();
      }
    },
    async close() {
      for (const { link } of links.values()) link.close();
      links.clear();
    },
  };
}

function nodeLink(link: AskingLink): NodeLink {
  const commands = (body: AnswerBody) => {
    if (body.$case !== 'commands') throw unfit(body);
    return body.value.commands.map(nodeCommandFromProto);
  };
  return {
    send: (command, { signal } = {}) =>
      link.read(
        { $case: 'send', value: { tenant: command.tenant, command: commandToProto(command), endOnly: false } },
        command.payload.value.length,
        signal,
      ),
    async settle(command) {
      const value = { tenant: command.tenant, command: commandToProto(command), endOnly: true };
      const update = updateOf(await link.ask({ $case: 'send', value }, command.payload.value.length));
      if (!isTerminalUpdate(update)) throw new HubError('internal', `a node settled a command as ${update.state}`);
      return update satisfies TerminalUpdate;
    },
    watch: (tenant, commandId, { signal, clientId = '' } = {}) =>
      link.read({ $case: 'watch', value: { tenant, commandId, clientId } }, 0, signal, 'leave'),
    cancel: async (tenant, commandId, reason, { clientId = '' } = {}) =>
      updateOf(await link.ask({ $case: 'cancel', value: { tenant, commandId, reason, clientId } })),
    async get(tenant, commandId, { clientId = '' } = {}) {
      const [record] = commands(await link.ask({ $case: 'get', value: { tenant, commandId, clientId } }));
      if (!record) throw new HubError('internal', 'a node answered without a command');
      return record;
    },
    async list({ tenant, clientId = '', pendingOnly = false, limit }: CommandQuery) {
      return commands(await link.ask({ $case: 'list', value: { tenant, clientId, pendingOnly, limit } }));
    },
    yield: async ({ tenant, clientId }, epoch) =>
      commands(await link.ask({ $case: 'yield', value: { tenant, clientId, epoch } })),
    async client({ tenant, clientId }) {
      const body = await link.ask({ $case: 'client', value: { tenant, clientId } });
      if (body.$case !== 'client') throw unfit(body);
      return nodeClientFromProto(body.value);
    },
    async disconnect({ tenant, clientId }, { reason, mayReconnect }) {
      const body = await link.ask({ $case: 'disconnect', value: { tenant, clientId, reason, mayReconnect } });
      if (body.$case !== 'disconnected') throw unfit(body);
      return body.value;
    },
  };
}

function updateOf(body: AnswerBody) {
  if (body.$case !== 'update') throw unfit(body);
  return updateFromProto(body.value);
}

function unfit(body: AnswerBody | AskBody): HubError {
  return new HubError('internal', `a node answered with "${body.$case}", which is not what was asked`);
}
