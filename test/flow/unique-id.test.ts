import { expect, test } from 'vitest';
import { uniqueId } from '../../src/flow/unique-id.ts';

test('ids are UUIDs of version 4, and none comes twice', () => {
  const ids = Array.from({ length: 2000 }, uniqueId);
  for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  expect(new Set(ids).size).toBe(2000);
  // Every random digit takes every value.
  for (const at of [0, 7, 9, 15, 20, 35]) expect(new Set(ids.map((id) => id[at])).size).toBe(16);
});
