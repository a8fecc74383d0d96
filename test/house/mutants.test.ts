import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { mutants } from '../mutants/mutants.ts';
import { root } from '../support/sources.ts';

// `npm run test:mutants` takes its time; that each bug can still be put in costs nothing to know.

const names = mutants.map(({ name }) => name);

test('each mutant has a name of its own', () => {
  expect(names.filter((name, at) => names.indexOf(name) !== at)).toEqual([]);
});

test.each(mutants)('the bug "$name" can be put in, at one place, and has tests that are to notice it', (mutant) => {
  const { file, find, replace, caughtBy } = mutant;
  expect(readFileSync(path.join(root, file), 'utf8').split(find)).toHaveLength(2);
  expect(replace).not.toBe(find);
  expect(caughtBy.length).toBeGreaterThan(0);
  expect(caughtBy.filter((test) => !existsSync(path.join(root, test)))).toEqual([]);
});

/** What the seeded bugs have to be about, at least. */
test.each([
  'acknowledged before it is stored',
  'epochs follow the clock',
  'what an older stream of a client says still counts',
  'forgotten a second after its command has ended',
  'line break in an event forges',
  'goes on writing to a stream that is full',
  'goes on writing to a browser that does not read',
  'a drain does not wait',
  'forgets a wake-up',
])('one of the mutants is: %s', (part) => {
  expect(names.filter((name) => name.includes(part))).toHaveLength(1);
});
