import { existsSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { type Import, importsOf, root, sources } from '../support/sources.ts';

/** A room imports only from rooms below its own line; rooms on one line are neighbours that never import each other. */
const house = [
  ['index', 'cli', 'console'],
  ['server'],
  ['grpc', 'gateway', 'sqlite', 'redis', 'opensearch', 'testing'],
  ['tasks', 'notifications', 'schemas', 'example'],
  ['commands', 'device', 'hub', 'cluster', 'leases', 'auth'],
  ['events'],
  ['protocol'],
  ['flow'],
  ['errors'],
];

/** Runs in browsers: imports nothing but itself, and nobody but the public imports it. */
const alone = 'browser';

const all = sources();
const imports = all.flatMap(importsOf);
const floorOf = new Map(house.flatMap((rooms, floor) => rooms.map((room) => [room, floor] as const)));

/** `src/hub/session.ts` is in `hub`, `src/errors.ts` is the room `errors`. */
function roomOf(file: string): string {
  return file.split('/')[1]!.replace(/\.tsx?$/, '');
}

function complaint({ file, line, target, isOurs }: Import): string | undefined {
  const from = roomOf(file);
  if (!isOurs) {
    if (from !== alone) return undefined;
    return `${file}:${line}: ${alone} imports the package ${target}, which a browser does not have`;
  }
  const to = roomOf(target);
  if (from === to) return undefined;
  const where = `${file}:${line}: ${from} imports ${to} (${target})`;
  if (from === alone || to === alone) return `${where}, but ${alone} stands alone`;
  if (floorOf.get(to)! > floorOf.get(from)!) return undefined;
  return floorOf.get(to) === floorOf.get(from) ? `${where}, its neighbour` : `${where}, which is above it`;
}

test('every room has its place in the house', () => {
  const rooms = new Set(all.map(({ file }) => roomOf(file)));
  expect([...rooms].filter((room) => room !== alone && !floorOf.has(room))).toEqual([]);
});

test('imports run one way: a room imports only from rooms below it', () => {
  expect(imports.map(complaint).filter((found) => found !== undefined)).toEqual([]);
});

test('imports of our own files name a file that is there, with its extension', () => {
  const missing = imports.filter(({ target, isOurs }) => isOurs && !existsSync(path.join(root, target)));
  expect(missing.map(({ file, line, target }) => `${file}:${line}: ${target}`)).toEqual([]);
});

test('no file imports itself over others', () => {
  const graph = new Map(all.map(({ file }) => [file, [] as string[]]));
  for (const { file, target, isOurs } of imports) if (isOurs && graph.has(target)) graph.get(file)!.push(target);

  const cycles: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, trail: readonly string[]): void => {
    if (trail.includes(file)) cycles.push([...trail.slice(trail.indexOf(file)), file].join(' -> '));
    if (done.has(file) || trail.includes(file)) return;
    for (const next of graph.get(file)!) visit(next, [...trail, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  expect(cycles).toEqual([]);
});
