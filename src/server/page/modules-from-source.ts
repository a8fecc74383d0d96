import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';

/**
 * TypeScript modules as a browser can run them, by file. Node takes the types away itself, in a thread of its own whose
 * stderr nobody reads: it warns that the function is experimental, which is no news for who runs from source.
 */
export async function modulesFromSource(
  folder: string,
  files: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const sources = new Map(files.map((file) => [file, readFileSync(path.join(folder, file), 'utf8')]));
  const worker = new Worker(strip, { eval: true, workerData: sources, stderr: true });
  try {
    const [modules] = (await once(worker, 'message')) as [Map<string, string>];
    return modules;
  } finally {
    await worker.terminate();
  }
}

const strip = `
const { stripTypeScriptTypes } = require('node:module');
const { parentPort, workerData } = require('node:worker_threads');
const modules = [...workerData].map(([file, source]) => [file, stripTypeScriptTypes(source)]);
parentPort.postMessage(new Map(modules));
`;
