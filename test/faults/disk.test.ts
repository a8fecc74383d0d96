import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { grpcTransport } from '../../src/grpc/index.ts';
import { submit } from './support/callers.ts';
import { HubProcess } from './support/hub.ts';
import { eventually } from './support/sizes.ts';
import { World } from './support/world.ts';

test('a full disk: nothing is accepted that is not kept, the process lives, and all accepted is done later (P21)', {
  timeout: 120_000,
}, async () => {
  // No file of this process may grow beyond 2 MB.
  const world = await World.open({ mailboxBytes: 1024 * 1024 * 1024 }, 'ulimit -f 4096');
  const { hub } = world;
  const transport = grpcTransport({ address: hub.grpc });
  onTestFinished(() => transport.close());
  const content = 'x'.repeat(20_000);
  const sends: ReturnType<typeof submit>[] = [];
  let refused = 0;
  for (let i = 0; refused < 20 && i < 1000; i++) {
    const one = submit(transport, world.ledger, { clientId: 'away', content: `${i} ${content}` });
    sends.push(one);
    if (!(await one.accepted)) refused++;
  }
  expect(refused).toBe(20);
  const refusals = world.callers.filter((line) => line.kind === 'refused');
  expect(new Set(refusals.map(({ code }) => code))).toEqual(new Set(['unavailable']));
  expect(refusals[0]!.message).toMatch(/store|disk|full/);
  expect(hub.child.hasEnded, 'the hub lives').toBe(false);
  const accepted = sends.length - refused;
  expect(accepted).toBeGreaterThan(5);

  // With room again, by a restart: all that was accepted is there, and is done.
  await hub.child.kill();
  const roomy = new HubProcess({ data: path.join(world.folder, 'data') });
  roomy.grpc = hub.grpc;
  await roomy.start();
  world.devices(['away']);
  await eventually(
    () => `${world.verdict().effects} of ${accepted} are done`,
    () => world.verdict().effects === accepted,
    60_000,
  );
  await eventually('all ends are told', () => world.verdict().broken.length === 0, 30_000);
  expect(world.verdict().states).toEqual({ succeeded: accepted });
});

test('a data file that is damaged is refused with a reason, not with a crash later (P21)', async () => {
  const world = await World.open();
  const { hub } = world;
  hub.child.signal('SIGTERM');
  expect(await hub.child.ended).toBe(0);
  writeFileSync(path.join(world.folder, 'data', 'signalbox.db'), Buffer.alloc(8192, 'garbage'));
  await expect(hub.start()).rejects.toThrow(/signalbox\.db is not a database: move it away/);
});
