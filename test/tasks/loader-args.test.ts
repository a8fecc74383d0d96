import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { loaderArgs } from '../../src/tasks/isolation/loader-args.ts';

test('what loads modules is handed on, and nothing else', () => {
  const loaders = ['--import', 'tsx', '--import=./a.mjs', '-r', './b.cjs', '-C', 'development', '--enable-source-maps'];
  const others = ['--inspect=9229', '--eval', '1', '--input-type=module', '--max-old-space-size=64', '--test'];
  expect(loaderArgs([...others, ...loaders])).toEqual(loaders);
  expect(loaderArgs(['--import'])).toEqual(['--import']);
});

test('a task has in a thread or process what its program was started with', async () => {
  const preload = `data:text/javascript,${encodeURIComponent('globalThis.preloaded = "is there"')}`;
  const program = path.join(import.meta.dirname, 'programs/preloaded.ts');
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', preload, program, 'go']);
  expect(stdout.trim().split('\n')).toEqual(['inline is there', 'thread is there', 'process is there']);
});
