import type { Membership } from '../../src/cluster/index.ts';
import { commandTransportContract, type Road } from '../contracts/command-transport.ts';
import { TestCluster, type TestNode } from './cluster.ts';

function road({ road: hub }: TestNode, cluster: TestCluster, withClient: boolean): Road {
  return {
    as: () => hub,
    watch: (tenant, id) => hub.watch(tenant, id, withClient ? { clientId: 'pump-7' } : {}),
    cancel: (tenant, id) => hub.cancel(tenant, id, 'by the test', withClient ? { clientId: 'pump-7' } : {}),
    close: () => cluster.close(),
  };
}

const drain = 'a node that drains serves its devices until they have left for the others';

for (const withClient of [true, false]) {
  const how = withClient ? 'by client id' : 'by command id alone';
  let cluster: TestCluster;
  let membership: Membership;

  commandTransportContract(
    `routed, with the device at this node, found ${how},`,
    async (hub) => road(cluster.attach('a', hub, membership), cluster, withClient),
    async ({ clock, commands }) => {
      cluster = new TestCluster({ clock, commands });
      membership = await cluster.membership('a');
      return { claims: membership };
    },
    { drain },
  );

  commandTransportContract(
    `routed, with the device at another node, found ${how},`,
    async (hub) => {
      cluster.attach('b', hub, membership);
      return road(await cluster.add('a'), cluster, withClient);
    },
    async ({ clock, commands, mailboxCommands }) => {
      cluster = new TestCluster({ clock, commands, hub: { mailboxCommands } });
      membership = await cluster.membership('b');
      return { claims: membership };
    },
    {
      idOfAnotherClient: 'a live command is known to the node of its client alone',
      drain,
    },
  );
}
