import { expect, test } from 'vitest';
import { timeOrderedId, uniqueId } from '../../src/flow/unique-id.ts';

test('ids are UUIDs of version 4, and none comes twice', () => {
  const ids = Array.from({ length: 2000 }, uniqueId);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(new Set(ids).size).toBe(2000);
  // Every random digit takes every value.
  for (const at of [0, 7, 9, 15, 20, 35]) expect(new Set(ids.map((id) => id[at])).size).toBe(16);
});

test('time-ordered ids are UUIDs of version 7 that begin with their time', () => {
  const nowMs = Date.UTC(2026, 10, 21);
  const ids = Array.from({ length: 2000 }, (_, i) => timeOrderedId(nowMs + Math.floor(i / 100)));
  for (const [i, id] of ids.entries()) {
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(Number.parseInt(id.replace('-', '').slice(0, 12), 16)).toBe(nowMs + Math.floor(i / 100));
  }
  expect(new Set(ids).size).toBe(2000);
  for (const at of [15, 20, 35]) expect(new Set(ids.map((id) => id[at])).size).toBe(16);
  for (const id of Array.from({ length: 100 }, uniqueId)) expect(id[14]).toBe('4');
});
