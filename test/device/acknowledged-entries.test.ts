import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AcknowledgedEntries } from '../../src/device/journal/acknowledged-entries.ts';
import type { JournalEntry } from '../../src/device/journal/journal.ts';

/** The same, as plainly as it can be said. */
class Model {
  readonly #maxEntries: number;
  readonly #maxResultBytes: number;
  #entries: { entry: JournalEntry; isNewest: boolean }[] = [];

  constructor(maxEntries: number, maxResultBytes: number) {
    this.#maxEntries = maxEntries;
    this.#maxResultBytes = maxResultBytes;
  }

  add(commandId: string, idempotent: boolean, result: Uint8Array | undefined): void {
    for (const [i, { entry, isNewest }] of this.#entries.entries())
      if (entry.commandId === commandId && isNewest)
        this.#entries[i] = { entry: { ...entry, result: undefined }, isNewest: false };
    this.#entries.push({ entry: { commandId, idempotent, state: 'acknowledged', result }, isNewest: true });
    this.#entries = this.#entries.slice(Math.max(0, this.#entries.length - this.#maxEntries));
    for (let i = 0; this.#bytes > this.#maxResultBytes; i++)
      this.#entries[i] = { ...this.#entries[i]!, entry: { ...this.#entries[i]!.entry, result: undefined } };
  }

  all(): JournalEntry[] {
    return this.#entries.filter(({ isNewest }) => isNewest).map(({ entry }) => entry);
  }

  get #bytes(): number {
    return this.#entries.reduce((sum, { entry }) => sum + (entry.result?.length ?? 0), 0);
  }
}

test('exactly the newest entries are remembered, with exactly the newest results, however they come', () => {
  const id = fc.oneof(fc.constantFrom('a', 'b', '€', 'ü', '\u00ffa', ''), fc.nat(200).map(String));
  const size = fc.oneof(fc.constant(undefined), fc.constantFrom(0, 1, 40, 256, 257, 900));
  const step = fc.record({ id, size, idempotent: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 100, size: 'max' }),
      fc.integer({ min: 0, max: 60 }),
      fc.integer({ min: 0, max: 5000 }),
      (steps, maxEntries, maxResultBytes) => {
        const model = new Model(maxEntries, maxResultBytes);
        const entries = new AcknowledgedEntries(maxEntries, maxResultBytes);
        for (const [i, { id, size, idempotent }] of steps.entries()) {
          const result = size === undefined ? undefined : new Uint8Array(size).fill(i);
          model.add(id, idempotent, result);
          entries.add(id, idempotent, result);
          const known = model.all();
          expect(entries.get(id)).toEqual(known.find(({ commandId }) => commandId === id));
        }
        expect(entries.all()).toEqual(model.all());
        for (const { id } of steps)
          expect(entries.get(id)).toEqual(model.all().find(({ commandId }) => commandId === id));
        expect(entries.get('never')).toBe(undefined);
      },
    ),
    { numRuns: 50 },
  );
});
