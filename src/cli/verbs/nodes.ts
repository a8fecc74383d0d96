import { Command } from 'commander';
import type { Node } from '../../protocol/gen/signalbox/v1/cluster.ts';
import { type HubOptions, openHub, withHubOptions } from '../connect.ts';
import { exitCodes } from '../exit-codes.ts';
import type { Verb } from '../run.ts';
import { table } from '../terminal.ts';

/** `signalbox nodes`: the processes that make up the hub. */
export const nodes: Verb = {
  declare: () => withHubOptions(new Command('nodes').description('List the nodes that work together as one hub.')),

  examples: ['nodes', 'nodes --grpc 10.0.0.5:50051 --json'],

  async run(_args, options: HubOptions, { terminal, outside, signal }) {
    await using hub = await openHub(options, outside);
    const { nodes: found } = await hub.services.cluster.listNodes({}, { signal });
    if (terminal.isJson) for (const node of found) terminal.tell(nodeJson(node));
    else terminal.tell(undefined, table([heads, ...found.map(cells)]));
    return exitCodes.ok;
  },
};

function nodeJson({ startedAtMs, ...node }: Node): object {
  return { ...node, startedAt: new Date(startedAtMs).toISOString() };
}

const heads = ['NODE', 'ADDRESS', 'DEVICES', 'STATE', 'SINCE', 'VERSION', ''];

function cells(node: Node): string[] {
  return [
    node.id,
    node.address || '-',
    String(node.sessions),
    node.isDraining ? 'draining' : 'ready',
    new Date(node.startedAtMs).toISOString().slice(0, 19).replace('T', ' '),
    node.version,
    node.isAnswering ? '(this one answered)' : '',
  ];
}
