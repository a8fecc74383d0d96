import { readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { modulesFromSource } from './modules-from-source.ts';

/** A page and the modules it imports; what the gateway's option `page` takes. */
export interface BuiltInPage {
  readonly html: string;
  /** The file at this path below `/browser/`; undefined if there is none. */
  module(path: string): Promise<PageModule | undefined>;
}

export interface PageModule {
  readonly body: string;
  /** Its media type. */
  readonly type: string;
}

const types: Readonly<Record<string, string>> = {
  '.js': 'text/javascript; charset=utf-8',
  '.ts': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/**
 * The page that comes with the hub, and the browser library as the page imports it: the compiled modules from `dist`,
 * or the sources with their types taken away when the hub itself runs from its sources.
 */
export function builtInPage(): BuiltInPage {
  const folder = path.resolve(import.meta.dirname, '../../browser');
  const isSource = import.meta.filename.endsWith('.ts');
  // Only what is in this list can be asked for, whatever the path says.
  const files = new Set(
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => file.split(path.sep).join('/')),
  );
  const cache = new Map<string, Promise<PageModule>>();
  let stripped: Promise<ReadonlyMap<string, string>> | undefined;

  const load = async (file: string): Promise<PageModule> => {
    const type = types[path.extname(file)] ?? 'application/octet-stream';
    if (!file.endsWith('.ts')) return { body: await readFile(path.join(folder, file), 'utf8'), type };
    stripped ??= modulesFromSource(
      folder,
      [...files].filter((each) => each.endsWith('.ts')),
    );
    return { body: (await stripped).get(file)!, type };
  };

  return {
    html: readFileSync(path.join(folder, 'page/index.html'), 'utf8'),
    async module(asked) {
      // The page asks for its first module as `page.js`; from source, that and all it imports is a .ts.
      const file = isSource ? asked.replace(/\.js$/, '.ts') : asked;
      if (!files.has(file) || types[path.extname(file)] === undefined || file.endsWith('.d.ts')) return undefined;
      const found = cache.get(file) ?? load(file);
      cache.set(file, found);
      found.catch(() => cache.delete(file)); // to be tried again, not remembered
      return found;
    },
  };
}
