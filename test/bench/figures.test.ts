import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { figuresOf } from '../../bench/figures.ts';
import { table } from '../../bench/table.ts';
import { root } from '../support/sources.ts';

test('a figure is one line of JSON for each yardstick, always of the same keys', () => {
  const figures = figuresOf('commands', 'p50', 'ms', 3, { 'bare echo': 2, 'socket.io': 0 });
  expect(figures.map((figure) => JSON.stringify(figure))).toEqual([
    '{"bench":"commands","metric":"p50","value":3,"unit":"ms","yardstick":"bare echo","yardstickValue":2,"ratio":1.5}',
    '{"bench":"commands","metric":"p50","value":3,"unit":"ms","yardstick":"socket.io","yardstickValue":0,"ratio":null}',
  ]);
  expect(figuresOf('queued', 'p99', 'ms', 3).map((figure) => JSON.stringify(figure))).toEqual([
    '{"bench":"queued","metric":"p99","value":3,"unit":"ms","yardstick":null,"yardstickValue":null,"ratio":null}',
  ]);
});

test('people get one line for each metric, with all its yardsticks', () => {
  const figures = [
    ...figuresOf('commands', 'p50', 'ms', 3, { 'bare echo': 2, 'socket.io': 0 }),
    ...figuresOf('commands', 'rate', '1/s', 12_345),
  ];
  expect(table(figures).split('\n')).toEqual([
    '  p50       3.00 ms    bare echo 2.00 (1.50x), socket.io 0.00',
    '  rate    12,345 1/s',
  ]);
});

test('every bench that can be run is described where its figures are', () => {
  const main = readFileSync(path.join(root, 'bench/main.ts'), 'utf8');
  const docs = readFileSync(path.join(root, 'docs/performance.md'), 'utf8');
  const listed = /const benches[^{]*= \{([^}]*)\}/.exec(main)![1]!;
  const names = [...listed.matchAll(/^ {2}'?([a-z-]+)'?[,:]/gm)].map(([, name]) => name!);
  expect(names).toContain('commands');
  expect(names.filter((name) => !docs.includes(`| \`${name}\``))).toEqual([]);
});
