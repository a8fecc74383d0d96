import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

export const root = path.resolve(import.meta.dirname, '../..');

/** One source file of ours, with comments blanked out (line numbers stay). */
export interface Source {
  /** From the repository's root, with `/`. */
  readonly file: string;
  readonly lines: readonly string[];
}

/** Every TypeScript file below `src`, without generated ones. */
export function sources(): Source[] {
  return readdirSync(path.join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)).split(path.sep).join('/'))
    .filter((file) => !file.startsWith('src/protocol/gen/'))
    .sort()
    .map((file) => ({ file, lines: withoutComments(readFileSync(path.join(root, file), 'utf8')).split('\n') }));
}

export interface Import {
  readonly file: string;
  readonly line: number;
  /** A file of ours from the repository's root, or the name of a package as it is written. */
  readonly target: string;
  readonly isOurs: boolean;
}

/** What a file imports: static and dynamic imports, re-exports, imports of types. */
export function importsOf({ file, lines }: Source): Import[] {
  const text = lines.join('\n');
  const found: Import[] = [];
  const patterns = [/\b(?:from|import)\s*(['"])([^'"\n]+)\1/g, /\bimport\(\s*(['"])([^'"\n]+)\1\s*\)/g];
  for (const pattern of patterns)
    for (const match of text.matchAll(pattern)) {
      const name = match[2]!;
      const isOurs = name.startsWith('.');
      found.push({
        file,
        line: text.slice(0, match.index).split('\n').length,
        target: isOurs ? path.posix.join(path.posix.dirname(file), name) : name,
        isOurs,
      });
    }
  return found;
}

/** Blanks comments, and keeps what only looks like one inside of a string. */
export function withoutComments(text: string): string {
  const token = /'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\[\s\S])*`|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g;
  return text.replace(token, (found) => (found.startsWith('/') ? found.replace(/[^\n]/g, ' ') : found));
}
