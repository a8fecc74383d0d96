import { get } from 'node:http';
import { expect, onTestFinished, test } from 'vitest';
import { grpcTransport, hubClients } from '../../src/grpc/index.ts';
import { faultProxy } from '../../src/testing/index.ts';
import { submit } from './support/callers.ts';
import { eventually } from './support/sizes.ts';
import { World } from './support/world.ts';

test('a hub that drains ends by itself once its time is over, whatever holds on to it, and keeps what was queued (P12)', async () => {
  const world = await World.open({ drainTimeoutMs: 1000, drainReconnectAfterMs: 50, drainSpreadMs: 100 });
  const { hub } = world;
  const road = await faultProxy({ target: () => hub.grpc });
  const browserRoad = await faultProxy({ target: () => hub.http });
  onTestFinished(async () => {
    await Promise.all([road.close(), browserRoad.close()]);
  });
  // A device whose work never ends, one that will never read again, a watcher of each kind, and a browser that reads nothing.
  world.devices(['endless'], { workMs: 1_000_000_000 });
  world.devices(['stalled'], { address: road.address });
  const clients = hubClients({ address: hub.grpc });
  const transport = grpcTransport({ address: hub.grpc });
  onTestFinished(async () => {
    await transport.close();
    await clients.close();
  });
  const watching = (async () => {
    for await (const { event } of clients.events.watchEvents({ channels: ['fleet'] })) if (event) return;
  })();
  watching.catch(() => undefined); // it is cut when the hub goes
  const browser = get(`http://${browserRoad.address}/v1/events?channel=fleet`, (response) => response.pause());
  browser.on('error', () => undefined);
  const there = async (): Promise<boolean> => {
    const { clients } = (await (await fetch(`http://${hub.http}/v1/clients?connected=true`)).json()) as {
      clients: unknown[];
    };
    return clients.length === 2;
  };
  await eventually('both devices are there', there);
  road.pause();
  browserRoad.pause();
  const live = submit(transport, world.ledger, { clientId: 'endless', content: 'live', live: true });
  const begun = submit(transport, world.ledger, { clientId: 'endless', content: 'begun', orderingKey: 'other' });
  const unread = submit(transport, world.ledger, { clientId: 'stalled', content: 'x'.repeat(500_000) });
  const away = submit(transport, world.ledger, { clientId: 'away', content: 'later' });
  for (const each of [live, begun, unread, away]) expect(await each.accepted).toBe(true);

  hub.child.signal('SIGTERM');
  expect(await hub.child.ended, hub.child.stderr).toBe(0);

  await hub.start();
  road.resume();
  world.devices(['away']);
  const outcomes = await Promise.all([unread, away].map(({ ended }) => ended));
  expect(outcomes).toEqual(['succeeded', 'succeeded']);
  expect(world.effects.map(({ content }) => content[0]).toSorted()).toEqual(['l', 'x']);
});
