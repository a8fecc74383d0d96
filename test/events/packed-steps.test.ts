import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type NewEvent, StepChannel, type StepSource } from '../../src/events/event-log.ts';
import { EventTail } from '../../src/events/event-tail.ts';

/** What becomes of one number; its steps are told with the bytes that it weighs. */
class Source implements StepSource {
  readonly #name: number;
  readonly #weight: number;
  firstSeq = 0;
  isOver = false;

  constructor(name: number, weight: number) {
    this.#name = name;
    this.#weight = weight;
  }

  bytesOf(step: number): number {
    return step === 3 ? this.#weight : 10;
  }

  eventOf(step: number): NewEvent {
    const data = `${this.#name}.${step}`;
    return { type: 't', atMs: this.#name, data, durable: false, bytes: this.bytesOf(step) };
  }

  pack(page: Uint8Array, at: number): number {
    const end = at + 8 + this.#weight;
    if (end > page.length) return 0;
    new DataView(page.buffer).setUint32(at, this.#name);
    new DataView(page.buffer).setUint32(at + 4, this.#weight);
    return end;
  }

  readonly unpack = Source.unpacked;

  static unpacked(page: Uint8Array, at: number): Source {
    const view = new DataView(page.buffer);
    return new Source(view.getUint32(at), view.getUint32(at + 4));
  }
}

test('steps are told as they came, whether their source is packed by then or not, and weigh the same', () => {
  const turn = fc.record({ lane: fc.nat(5), weight: fc.nat(3000), reads: fc.boolean() });
  fc.assert(
    fc.property(fc.array(turn, { maxLength: 200 }), fc.integer({ min: 1, max: 100 }), (turns, ringEvents) => {
      const tail = new EventTail(1, { ringEvents, maxAgeMs: Number.POSITIVE_INFINITY });
      const steps = new StepChannel('default/c');
      const channel = tail.open(steps.key);
      const lanes: { name: number; step: number; source: Source }[] = [];
      const told: string[] = [];
      const weights: number[] = [];
      let names = 0;
      const read = (): unknown[] => {
        const { events, next } = tail.read('default/c', { epoch: 1, seq: told.length - channel.size }, ringEvents);
        expect(next.seq).toBe(told.length);
        return events.map((event) => JSON.parse(event.dataJson()));
      };
      for (const { lane, weight, reads } of turns) {
        const at = lanes[lane] ?? { name: ++names, step: 0, source: new Source(names, weight) };
        lanes[lane] = at;
        at.step++;
        at.source.isOver = at.step === 3;
        tail.addStep(steps, at.source, at.step, 'kept');
        told.push(`${at.name}.${at.step}`);
        weights.push(160 + at.source.bytesOf(at.step));
        if (at.step === 3) delete lanes[lane];
        if (reads) expect(read()).toEqual(told.slice(-ringEvents));
        // What was read weighs its JSON, too; so the sum is looked at where nobody has read.
        else if (turns.every((other) => !other.reads))
          expect(channel.bytes).toBe(weights.slice(-ringEvents).reduce((sum, each) => sum + each, 0));
      }
      expect(read()).toEqual(told.slice(-ringEvents));
      tail.close();
    }),
  );
});

test('steps go on in a channel that the log had forgotten, above every number that it can have had', () => {
  const tail = new EventTail(1, { maxChannels: 2, maxAgeMs: Number.POSITIVE_INFINITY });
  const steps = new StepChannel('default/a');
  const ended = (name: number): Source => Object.assign(new Source(name, 10), { isOver: true });
  for (let name = 1; name <= 3; name++) tail.addStep(steps, ended(name), 3, 'kept');
  const forgotten = tail.open('default/a');
  for (const other of ['default/b', 'default/c', 'default/d', 'default/e']) tail.open(other);
  expect(tail.find('default/a')).toBe(undefined);
  expect([forgotten.size, forgotten.at(1)]).toEqual([0, undefined]);
  tail.addStep(steps, ended(4), 3, 'kept');
  const { events } = tail.read('default/a', tail.end('default/a'), 10);
  expect(events).toEqual([]);
  const page = tail.read('default/a', { epoch: 1, seq: 3 }, 10);
  expect(page.events.map((event) => JSON.parse(event.dataJson()))).toEqual(['4.3']);
  tail.close();
});

test('steps that are being stored are seen in their order once they are, packed or not, and a lost one is a gap', () => {
  const tail = new EventTail(1, { ringEvents: 50, maxAgeMs: Number.POSITIVE_INFINITY });
  const steps = new StepChannel('default/a');
  const turn = fc.record({ isPending: fc.boolean(), isOver: fc.boolean(), isLost: fc.boolean(), reads: fc.boolean() });
  fc.assert(
    fc.property(fc.array(turn, { maxLength: 40 }), fc.infiniteStream(fc.nat()), (turns, draws) => {
      const first = tail.end(steps.key).seq + 1;
      const open = new Map<number, boolean>();
      const lost = new Set<number>();
      const told = new Map<number, string>();
      let name = 0;
      const look = (): void => {
        const visible = Math.min(...open.keys(), first + told.size) - 1;
        const seen: number[] = [];
        for (let after = { epoch: 1, seq: first - 1 }; ; ) {
          const { events, next, atEnd } = tail.read(steps.key, after, 7);
          for (const event of events) expect(JSON.parse(event.dataJson())).toBe(told.get(event.seq));
          seen.push(...events.map(({ seq }) => seq));
          after = next;
          if (atEnd) break;
        }
        const due = [...told.keys()].filter((seq) => seq <= visible && !lost.has(seq));
        expect(seen).toEqual(due);
      };
      const settleOne = (): void => {
        const [seq, isLost] = [...open][draws.next().value! % open.size]!;
        open.delete(seq);
        if (isLost) lost.add(seq);
        tail.settle(tail.find(steps.key)!, seq, isLost ? 'lost' : 'kept');
      };
      for (const { isPending, isOver, isLost, reads } of turns) {
        const source = Object.assign(new Source(++name, 10), { isOver });
        const { last } = tail.addStep(steps, source, isOver ? 3 : 1, isPending ? 'pending' : 'kept');
        told.set(last, `${name}.${isOver ? 3 : 1}`);
        if (isPending) open.set(last, isLost);
        if (open.size > 0 && draws.next().value! % 2 === 0) settleOne();
        if (reads) look();
      }
      while (open.size > 0) {
        settleOne();
        look();
      }
      look();
    }),
  );
  tail.close();
});
