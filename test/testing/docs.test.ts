import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import * as testing from '../../src/testing/index.ts';
import { root } from '../support/sources.ts';

test('every tool for tests of others is in docs/testing.md', () => {
  const docs = readFileSync(path.join(root, 'docs/testing.md'), 'utf8');
  // Classes are what the functions of the same name give.
  const tools = Object.keys(testing).filter((name) => /^[a-z]/.test(name));
  expect(tools).toContain('faultProxy');
  expect(tools.filter((name) => !new RegExp(`\\b${name}\\b`).test(docs))).toEqual([]);
});
