import { randomBytes } from 'node:crypto';
import { get } from 'node:http';
import { connect } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { grpcTransport } from '../../src/grpc/index.ts';
import { submit } from './support/callers.ts';
import type { HubUsage } from './support/hub.ts';
import { order } from './support/order.ts';
import { dice, eventually, figures, size, sleep } from './support/sizes.ts';
import { World } from './support/world.ts';

/** Beginnings that get past the door, before the garbage follows. */
const beginnings = [
  '',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0',
  'GET /v1/events?channel=client.steady HTTP/1.1\r\nhost: localhost\r\n',
  'POST /v1/clients/steady/commands HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n',
  '\x16\x03\x01\x02\0\x01',
];

test('devices and browsers come and go and garbage rains on both ports: healthy traffic sees nothing, and all is given back (P22, P25)', {
  timeout: size(420_000, 4_500_000),
}, async () => {
  const { random, between } = dice();
  const world = await World.open({ heartbeatMs: 1000, livenessMs: 1000, resumeWindowMs: 500 });
  const { hub } = world;
  world.devices(['steady']);
  const transport = grpcTransport({ address: hub.grpc });
  onTestFinished(() => transport.close());
  let isOver = false;
  const outcomes: string[] = [];
  const healthy = (async () => {
    await submit(transport, world.ledger, { clientId: 'steady', content: 'first' }).ended;
    for (let i = 0; !isOver; i++) {
      outcomes.push(await submit(transport, world.ledger, { clientId: 'steady', content: `${i}`, live: true }).ended);
      await sleep(10);
    }
  })();

  const churn = async (n: number): Promise<void> => {
    const clientId = `churn-${n % 300}`;
    const device = await connectDevice({ address: hub.grpc, clientId });
    device.handle(order, (one) => one, { result: order });
    await submit(transport, { write: () => undefined }, { clientId, content: 'x', live: true }).ended;
    void device.emit('seen', { n });
    await device.close({ timeoutMs: between(0, 1) * 1000 });
  };
  const browse = (n: number): void => {
    const browser = get(`http://${hub.http}/v1/events?channel=client.steady&channel=client.churn-${n % 300}`, {
      agent: false,
    });
    browser.on('error', () => undefined); // it is destroyed below, perhaps before it was answered
    browser.on('response', (response) => response.on('error', () => undefined).resume());
    setTimeout(() => browser.destroy(), between(0, 1500));
  };
  const garbage = (): void => {
    const [host, port] = (random() < 0.5 ? hub.grpc : hub.http).split(':');
    const socket = connect(Number(port), host);
    socket.on('error', () => undefined); // the hub resets it, as it should
    socket.resume();
    socket.write(beginnings[between(0, beginnings.length - 1)]!, 'latin1');
    for (let i = between(0, 3); i > 0; i--) socket.write(randomBytes(between(1, 5000)));
    setTimeout(() => socket.destroy(), between(0, 1500));
  };
  const round = async (seconds: number): Promise<HubUsage> => {
    const all: Promise<void>[] = [];
    for (let tick = 0; tick < seconds * 10; tick++) {
      all.push(churn(n++));
      browse(n);
      for (let i = 0; i < 3; i++) garbage();
      await sleep(100);
    }
    await Promise.all(all);
    await sleep(4000); // streams of the dead are closed, nothing can be resumed any more
    return hub.usage();
  };
  let n = 0;
  // Three minutes of churn (full: an hour), of which the first part fills what is filled once.
  const first = await round(size(30, 360));
  const rounds: HubUsage[] = [];
  for (let i = 0; i < 5; i++) rounds.push(await round(size(30, 648)));
  isOver = true;
  await healthy;
  const last = rounds.at(-1)!;
  expect(outcomes.filter((outcome) => outcome !== 'succeeded')).toEqual([]);
  expect(outcomes.length).toBeGreaterThan(100);
  expect(world.verdict().broken).toEqual([]);
  expect(last.sessions).toBe(1);
  for (const kind of ['TCPSocketWrap', 'Timeout', 'FSReqCallback', 'Immediate'])
    expect(last.resources[kind] ?? 0, `${kind}: ${JSON.stringify(last.resources)}`).toBeLessThanOrEqual(
      (first.resources[kind] ?? 0) + 4,
    );
  expect(last.descriptors, 'open files and sockets').toBeLessThanOrEqual(first.descriptors + 4);
  expect(hub.child.stderr).not.toContain('MaxListenersExceeded');
  const heaps = [first, ...rounds].map(({ heapUsed }) => Math.round(heapUsed / 2 ** 20));
  expect(heaps.at(-1)! - heaps[0]!, `heap by round, in MB: ${heaps.join(' ')}`).toBeLessThan(16);
  const resident = [first, ...rounds].map(({ rss }) => Math.round(rss / 2 ** 20));
  expect(resident.at(-1)! - resident[0]!, `resident by round, in MB: ${resident.join(' ')}`).toBeLessThan(96);
  figures(`${n} devices came and went; heap by round, in MB: ${heaps.join(' ')}; resident: ${resident.join(' ')}`);
  expect(hub.child.hasEnded).toBe(false);
  await eventually('it still answers', async () => (await fetch(`http://${hub.http}/ready`)).status === 200);
});
