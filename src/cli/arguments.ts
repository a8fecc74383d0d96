import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import { HubError, toHubError } from '../errors.ts';

/** `10`, `1.5`, `500ms`, `10s`, `5m`, `2h`, `1d` as milliseconds; a bare number is seconds. */
export function parseDuration(text: string): number {
  const [, digits, unit = 's'] = /^(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)?$/.exec(text) ?? [];
  const ms = Math.round(Number(digits) * units[unit as keyof typeof units]);
  if (!Number.isSafeInteger(ms)) throw new InvalidArgumentError('write seconds, or 500ms, 10s, 5m, 2h, 1d.');
  return ms;
}

const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A whole number from 1. */
export function parseCount(text: string): number {
  const count = Number(text);
  if (!/^\d{1,9}$/.test(text) || count < 1) throw new InvalidArgumentError('write a whole number from 1.');
  return count;
}

/** A number above 0. */
export function parseRate(text: string): number {
  const rate = Number(text);
  if (!(rate > 0 && rate <= 1e6)) throw new InvalidArgumentError('write a number above 0.');
  return rate;
}

/** Collects `key=value` of an option that may be repeated. */
export function collectPair(text: string, before: Record<string, string> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('write key=value.');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}

/** Collects an option that may be repeated. */
export function collect(text: string, before: string[] = []): string[] {
  return [...before, text];
}

/** The JSON of an argument: the text itself, `@file`, or `-` for stdin. Undefined stays undefined. */
export async function readJson(argument: string | undefined, stdin: () => Promise<string>): Promise<unknown> {
  if (argument === undefined) return undefined;
  const text = argument === '-' ? await stdin() : argument.startsWith('@') ? readText(argument.slice(1)) : argument;
  try {
    return JSON.parse(text);
  } catch (error) {
    const from = argument === '-' ? 'stdin' : argument.startsWith('@') ? argument.slice(1) : 'the argument';
    throw new HubError('invalid-argument', `${from} is not JSON: ${toHubError(error).message}`, { cause: error });
  }
}

/** Whether a positional argument is JSON rather than a name. */
export const looksLikeJson = (argument: string): boolean => /^\s*[{["@]|^-$/.test(argument);

export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new HubError('invalid-argument', `cannot read ${path}: ${toHubError(error).message}`, { cause: error });
  }
}
