import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { root } from '../support/sources.ts';

/** One fenced block of a page. */
export interface Block {
  /** `docs/commands.md:12`. */
  readonly where: string;
  /** The word after the fence: `ts`, `sh`, `json`. */
  readonly language: string;
  /** The comment on the line before it, as in `<!-- run -->`. */
  readonly mark: string | undefined;
  readonly text: string;
}

/** The pages that people read, from the repository's root. `docs/performance.md` belongs to the measurements. */
export const pages = [
  'README.md',
  'CHANGELOG.md',
  ...readdirSync(path.join(root, 'docs'))
    .filter((file) => file.endsWith('.md') && file !== 'performance.md')
    .map((file) => `docs/${file}`),
];

export function textOf(page: string): string {
  return readFileSync(path.join(root, page), 'utf8');
}

export function blocksOf(page: string): Block[] {
  const blocks: Block[] = [];
  const lines = textOf(page).split('\n');
  for (let at = 0; at < lines.length; at++) {
    const language = /^```(\w+)/.exec(lines[at]!)?.[1];
    if (language === undefined) continue;
    const end = lines.indexOf('```', at + 1);
    if (end < 0) throw new Error(`${page}:${at + 1}: a block without an end`);
    const mark = /^<!-- (.+) -->$/.exec(lines[at - 1] ?? '')?.[1];
    blocks.push({ where: `${page}:${at + 1}`, language, mark, text: lines.slice(at + 1, end).join('\n') });
    at = end;
  }
  return blocks;
}

export const blocks = pages.flatMap(blocksOf);
