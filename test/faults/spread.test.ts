import { expect, test } from 'vitest';
import { connectDevice, type Device } from '../../src/device/index.ts';
import { memoryEventLog } from '../../src/events/memory-event-log.ts';
import { Hub, type HubFact } from '../../src/hub/index.ts';
import { type MemoryDial, memoryDial, seededRandom, type VirtualClock, virtualClock } from '../../src/testing/index.ts';

// What real processes can only show roughly, to the millisecond: a hub and its devices on a clock that stands still.

interface World {
  readonly clock: VirtualClock;
  readonly hub: Hub;
  readonly roads: MemoryDial[];
  readonly devices: Device[];
  /** The waits of each device so far, in ms. */
  readonly waits: number[][];
  isAway: boolean;
}

async function world(
  count: number,
  options: { heartbeatMs?: number; livenessMs?: number; resumeWindowMs?: number } = {},
) {
  const clock = virtualClock();
  const random = seededRandom(13);
  const hub = new Hub({ clock, random, log: memoryEventLog(), ...options });
  const built: World = { clock, hub, roads: [], devices: [], waits: [], isAway: false };
  for (let i = 0; i < count; i++) {
    const road = memoryDial(() => (built.isAway ? undefined : hub), { clock, random, latencyMs: [1, 20] });
    const waits: number[] = [];
    built.waits.push(waits);
    built.roads.push(road);
    built.devices.push(
      await connectDevice({
        address: 'memory',
        clientId: `device-${i}`,
        clock,
        random,
        waitForWelcome: false,
        dial: road.dial,
        observe: (fact) => {
          if (fact.kind === 'state-changed' && fact.state.kind === 'waiting') waits.push(fact.state.retryInMs);
        },
      }),
    );
  }
  await clock.advance(100);
  expect(hub.load.sessions).toBe(count);
  return built;
}

const connected = ({ hub }: World): number => hub.clients.list('default', { connectedOnly: true }).length;

async function closeAll({ hub, devices, clock }: World): Promise<void> {
  const closing = [...devices.map((device) => device.close({ timeoutMs: 0 })), hub.close()];
  await clock.advance(3000);
  await Promise.all(closing);
  expect(clock.pending, 'timers that are left').toBe(0);
}

/** How many of the waits are in each tenth of a range. */
function tenths(waits: readonly number[], least: number, most: number): number[] {
  const counts = new Array<number>(10).fill(0);
  for (const wait of waits) {
    expect(wait).toBeGreaterThanOrEqual(least);
    expect(wait).toBeLessThan(most);
    counts[Math.floor(((wait - least) / (most - least)) * 10)]!++;
  }
  return counts;
}

/** The nth wait of each device. */
const nthWaits = ({ waits }: World, n: number): number[] => waits.flatMap((own) => own.slice(n - 1, n));

const count = 500;
/** Of 500 that are spread evenly 50 are in each tenth; 75 would come by chance once in thousands of storms. */
const evenly = (counts: readonly number[]): void => {
  expect(Math.max(...counts), `by tenth of the range: ${counts}`).toBeLessThan(75);
  expect(Math.min(...counts), `by tenth of the range: ${counts}`).toBeGreaterThan(25);
};

test('devices that are cut at once come back spread over half a second, each after a chance of its own (P13)', async () => {
  const at = await world(count);
  for (const road of at.roads) road.cut();
  await at.clock.advance(20);
  expect(nthWaits(at, 1)).toHaveLength(count);
  evenly(tenths(nthWaits(at, 1), 0, 500));
  await at.clock.advance(600);
  expect(connected(at)).toBe(count);
  await closeAll(at);
});

test('while the hub is away their waits double up to 30 s, each evenly spread, and all are back within a minute (P13)', async () => {
  const at = await world(count);
  at.isAway = true;
  for (const road of at.roads) road.cut();
  await at.clock.advance(300_000);
  for (const [index, most] of [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].entries()) {
    expect(nthWaits(at, index + 1), `wait ${index + 1}`).toHaveLength(count);
    evenly(tenths(nthWaits(at, index + 1), 0, most));
  }
  at.isAway = false;
  // In no second of the half minute in which they come more than a small part of them comes.
  const arrivals: number[] = [];
  let before = 0;
  for (let second = 0; second < 60 && connected(at) < count; second++) {
    await at.clock.advance(1000);
    arrivals.push(connected(at) - before);
    before = connected(at);
  }
  expect(connected(at)).toBe(count);
  expect(arrivals.length, `arrivals by second: ${arrivals}`).toBeLessThanOrEqual(31);
  expect(Math.max(...arrivals), `arrivals by second: ${arrivals}`).toBeLessThan(count / 8);
  await closeAll(at);
});

test('a hub that drains says when: its hint comes first, and its spread is what they are spread over (P13)', async () => {
  const at = await world(count);
  const drained = at.hub.drain({ timeoutMs: 60_000, reconnectAfterMs: 5000, spreadMs: 20_000 });
  await at.clock.advance(100);
  await drained;
  expect(nthWaits(at, 1)).toHaveLength(count);
  // Each has drawn its time when it heard of the drain, and the goodbye comes a moment later.
  evenly(tenths(nthWaits(at, 1), 4900, 25_000));
  await closeAll(at);
});

test('a hint of the hub to one device is the least that it waits, and chance comes on top (P13)', async () => {
  const at = await world(count);
  // Each is pushed out by a program that says it is the same device; the hub tells the old one to stay away for a while.
  const rivals: Device[] = [];
  for (let i = 0; i < count; i++) {
    const { dial } = memoryDial(() => at.hub, { clock: at.clock, random: seededRandom(i) });
    const { clock } = at;
    rivals.push(
      await connectDevice({ address: 'memory', clientId: `device-${i}`, clock, waitForWelcome: false, dial }),
    );
  }
  await at.clock.advance(100);
  const waits = nthWaits(at, 1);
  expect(waits).toHaveLength(count);
  const hint = Math.floor(Math.min(...waits) / 1000) * 1000;
  expect(hint).toBeGreaterThanOrEqual(1000);
  evenly(tenths(waits, hint, hint + 500));
  for (const rival of rivals) void rival.close({ timeoutMs: 0 });
  await closeAll(at);
});

test('two programs that fight for one id are slowed to a takeover a minute, and each is reported (P8)', async () => {
  const clock = virtualClock();
  const facts: HubFact[] = [];
  const random = seededRandom(8);
  const hub = new Hub({ clock, random, observe: (fact) => facts.push(fact) });
  const devices: Device[] = [];
  for (let i = 0; i < 2; i++) {
    const { dial } = memoryDial(() => hub, { clock, random });
    const backoff = { minMs: 10, maxMs: 50 };
    const options = { address: 'memory', clientId: 'contended', clock, random, waitForWelcome: false, dial, backoff };
    devices.push(await connectDevice(options));
  }
  const epochs = (): number[] => facts.flatMap((fact) => (fact.kind === 'session-opened' ? [fact.epoch] : []));
  const contended = () => facts.filter((fact) => fact.kind === 'client-contended');
  await clock.advance(10 * 60_000);
  // Without the waits there would be more than a thousand.
  expect(epochs().length).toBeLessThan(20);
  const before = epochs().length;
  await clock.advance(60 * 60_000);
  expect(epochs().length - before).toBeLessThanOrEqual(61);
  expect(epochs()).toEqual([...new Set(epochs())].sort((a, b) => a - b));
  const waits = contended().map(({ retryAfterMs }) => retryAfterMs);
  expect(waits.slice(0, 5)).toEqual([4000, 8000, 16_000, 32_000, 60_000]);
  const closing = [...devices.map((device) => device.close({ timeoutMs: 0 })), hub.close()];
  await clock.advance(3000);
  await Promise.all(closing);
});

test('a peer that falls silent is offline within heartbeat, timeout and a second, one that is late is not, and nothing stays (P9)', async () => {
  const [heartbeatMs, livenessMs, streams] = [15_000, 10_000, 100];
  const at = await world(streams, { heartbeatMs, livenessMs, resumeWindowMs: 60_000 });
  const { clock, hub, roads } = at;
  const random = seededRandom(9);
  const facts: string[] = [];
  const stop = hub.clients.onChange('default', (client) => {
    if (!client.connected) facts.push(`${client.id} ${clock.monotonic()}`);
  });
  const base = clock.pending;
  // Devices that are well answer pings, however long it takes.
  await clock.advance(120_000);
  expect(facts).toEqual([]);
  expect(connected(at)).toBe(streams);
  // Half of them lose their power, each at a time of its own: no packet comes any more, and none says so.
  const silentSince = new Map<string, number>();
  const dying = roads
    .slice(0, streams / 2)
    .map((road, i) => ({ road, id: `device-${i}`, atMs: Math.floor(random() * 60_000) }));
  let ms = 0;
  for (const { road, id, atMs } of dying.toSorted((a, b) => a.atMs - b.atMs)) {
    await clock.advance(atMs - ms);
    ms = atMs;
    road.vanish();
    // Its program is gone with it: nobody connects again.
    void at.devices[Number(id.slice('device-'.length))]!.close({ timeoutMs: 0 });
    silentSince.set(id, clock.monotonic());
  }
  await clock.advance(120_000);
  stop();
  expect(facts).toHaveLength(streams / 2);
  for (const fact of facts) {
    const [id, offlineAt] = fact.split(' ') as [string, string];
    const tookMs = Number(offlineAt) - silentSince.get(id)!;
    expect(tookMs, id).toBeLessThanOrEqual(heartbeatMs + livenessMs + 1000);
    // Not before it could have answered: it was heard at most a heartbeat and the way of a ping ago.
    expect(tookMs, id).toBeGreaterThanOrEqual(livenessMs - 100);
  }
  const ids = hub.clients.list('default', { connectedOnly: true }).map(({ id }) => id);
  expect(ids.toSorted()).toEqual(
    at.devices
      .slice(streams / 2)
      .map((_, i) => `device-${i + streams / 2}`)
      .toSorted(),
  );
  expect(hub.load).toEqual({ sessions: streams / 2, outboxBytes: 0 });
  expect(clock.pending, `timers: ${base} before`).toBeLessThanOrEqual(base);
  await closeAll(at);
});
