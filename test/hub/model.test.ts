import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type CommandStore, Hub, memoryCommandStore } from '../../src/hub/index.ts';
import { type CommandUpdate, isTerminalUpdate } from '../../src/protocol/command.ts';
import {
  type ScriptedDevice,
  scriptedDevice,
  testCommand,
  type VirtualClock,
  virtualClock,
} from '../../src/testing/index.ts';

// A device with a journal, over any number of streams, boots and lost journals. What it executes goes into a ledger
// that the hub never sees; the checks at the end compare the ledger with what callers were told.
class JournaledDevice {
  readonly executions: { id: string; journal: number }[] = [];
  readonly #journal = new Map<string, 'begun' | 'done'>();
  #journalNumber = 0;
  #boot = 0;
  #stream: ScriptedDevice | undefined;
  #seen = 0;
  /** Highest number that the device has really looked at; what came after it is lost with the stream. */
  #taken = 0;
  #session: string | undefined;
  #unacknowledged = new Set<string>();

  async connect(hub: Hub, kind: 'resume' | 'restart' | 'lost-journal'): Promise<void> {
    if (kind !== 'resume') this.#boot++;
    if (kind === 'lost-journal') {
      this.#journal.clear();
      this.#unacknowledged.clear();
      this.#journalNumber++;
    }
    const lastSeq = this.#taken;
    this.#stream = scriptedDevice(hub);
    this.#seen = 0;
    const mayResume = kind === 'resume' && this.#session !== undefined;
    const begun = [...this.#journal.keys()].filter(
      (id) => this.#journal.get(id) === 'begun' || this.#unacknowledged.has(id),
    );
    const welcome = await this.#stream
      .hello({
        bootId: `boot-${this.#boot}`,
        journalId: `journal-${this.#journalNumber}`,
        inFlight: begun,
        window: 3,
        ...(mayResume ? { resume: { session: this.#session!, lastSeq } } : {}),
      })
      .catch(() => undefined);
    if (!welcome) return;
    this.#session = welcome.session;
    this.pull();
    for (const id of this.#unacknowledged) this.#stream.succeed(id);
  }

  cut(): void {
    this.#stream?.cut();
  }

  /** Executes what has come, in order, each id once per journal; answers a repeated id from the journal. */
  pull(): void {
    this.#taken = this.#stream?.received ?? 0;
    for (const { id } of this.#stream?.commands.slice(this.#seen) ?? []) {
      this.#seen++;
      const entry = this.#journal.get(id);
      if (entry === 'done') this.#tell(id);
      if (entry) continue;
      this.#journal.set(id, 'begun');
      this.executions.push({ id, journal: this.#journalNumber });
    }
  }

  answer(repeated: boolean): void {
    const id = [...this.#journal].find(([, state]) => state === 'begun')?.[0];
    if (id === undefined) return;
    this.#journal.set(id, 'done');
    this.#tell(id);
    if (repeated) this.#tell(id);
  }

  acknowledge(): void {
    this.pull();
    if (!this.#stream?.isClosed) this.#stream?.acknowledge();
  }

  #tell(id: string): void {
    this.#unacknowledged.add(id);
    if (!this.#stream?.isClosed) this.#stream?.succeed(id);
  }
}

const action = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('queue' as const), idempotent: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('live' as const), idempotent: fc.boolean() }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('answer' as const), repeated: fc.boolean() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('acknowledge' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cut' as const) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('connect' as const),
      how: fc.constantFrom('resume' as const, 'restart' as const, 'lost-journal' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cancel' as const), which: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart hub' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.constantFrom(10, 500, 4000) }) },
);

interface Told {
  readonly id: string;
  readonly queued: boolean;
  readonly idempotent: boolean;
  readonly updates: CommandUpdate[];
  wasCancelledWhileQueued: boolean;
  error?: unknown;
}

function follow(_hub: Hub, told: Told, updates: AsyncIterable<CommandUpdate>): void {
  (async () => {
    for await (const update of updates) told.updates.push(update);
  })().catch((error: unknown) => {
    told.error = error;
  });
}

async function play(
  actions: (typeof action extends fc.Arbitrary<infer A> ? A : never)[],
  clock: VirtualClock,
  store: CommandStore,
) {
  const options = {
    clock,
    commands: store,
    random: () => 0.5,
    resultWaitMs: 5000,
    heartbeatMs: 1e9,
    resumeWindowMs: 3000,
  };
  let hub = new Hub(options);
  const device = new JournaledDevice();
  const all: Told[] = [];
  for (const step of actions) {
    switch (step.kind) {
      case 'queue':
      case 'live': {
        const queued = step.kind === 'queue';
        const command = testCommand({
          whenOffline: queued ? 'queue' : 'fail',
          timeoutMs: queued ? 0 : 20_000,
          ttlMs: 20_000,
          idempotent: step.idempotent,
        });
        const told: Told = {
          id: command.id,
          queued,
          idempotent: step.idempotent,
          updates: [],
          wasCancelledWhileQueued: false,
        };
        all.push(told);
        follow(hub, told, hub.send(command));
        break;
      }
      case 'answer':
        device.pull();
        device.answer(step.repeated);
        break;
      case 'acknowledge':
        device.acknowledge();
        break;
      case 'cut':
        device.cut();
        break;
      case 'connect':
        await device.connect(hub, step.how);
        break;
      case 'cancel': {
        const told = all[step.which];
        if (told && told.updates.length > 0 && !told.error) {
          const update = await hub.cancel('default', told.id, 'model').catch(() => undefined);
          const wasSent = told.updates.some(({ state }) => state !== 'queued' && state !== 'cancelled');
          if (update?.state === 'cancelled' && !wasSent) told.wasCancelledWhileQueued = true;
        }
        break;
      }
      case 'restart hub':
        await hub.close();
        hub = new Hub(options);
        // Callers of queued commands come back to watch them; live commands ended with the hub.
        for (const told of all) {
          const last = told.updates.at(-1);
          if (!told.queued || !last || isTerminalUpdate(last)) continue;
          told.updates.length = 0;
          follow(hub, told, hub.watch('default', told.id));
        }
        break;
      case 'wait':
        await clock.advance(step.ms);
        break;
    }
    await clock.advance(1);
  }
  // Long enough for every deadline, time to live and wait for a result; the device answers nothing any more.
  for (let i = 0; i < 12; i++) await clock.advance(3000);
  await clock.advance(0);
  return { hub, device, all };
}

test('whatever happens, each accepted command ends once, what ran is never run again, and order is kept', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 50 }), async (actions) => {
      const clock = virtualClock();
      const { hub, device, all } = await play(actions, clock, memoryCommandStore());
      const byId = new Map(all.map((told) => [told.id, told]));
      for (const told of all) {
        if (told.updates.length === 0) {
          expect(told.error, 'a command that was not accepted has an error').toBeDefined();
          expect(
            device.executions.some(({ id }) => id === told.id),
            'and was not run',
          ).toBe(false);
          continue;
        }
        const ends = told.updates.filter(isTerminalUpdate);
        expect(ends, `command ${told.id} ends once`).toHaveLength(1);
        expect(told.updates.at(-1)).toBe(ends[0]);
        const end = ends[0]!;
        const runs = device.executions.filter(({ id }) => id === told.id);
        const journals = new Set(runs.map(({ journal }) => journal));
        expect(runs.length, 'at most once per journal').toBe(journals.size);
        if (!told.idempotent) expect(runs.length, 'what may not be repeated runs at most once').toBeLessThanOrEqual(1);
        if (end.state === 'succeeded') expect(runs.length).toBeGreaterThanOrEqual(1);
        if (end.state === 'unknown') expect(told.idempotent).toBe(false);
        if (told.wasCancelledWhileQueued) expect(runs).toHaveLength(0);
      }
      // First executions are in the order of acceptance, as far as no journal was lost in between.
      const order = new Map(all.map(({ id }, index) => [id, index]));
      const queuedOnly = (queued: boolean) =>
        [...new Set(device.executions.map(({ id }) => id))]
          .filter((id) => byId.get(id)?.queued === queued)
          .map((id) => order.get(id)!);
      for (const positions of [queuedOnly(true), queuedOnly(false)])
        expect(positions).toEqual([...positions].sort((a, b) => a - b));
      await hub.close();
      expect(clock.pending).toBe(0);
    }),
    { numRuns: 300 },
  );
});
