import { HubError } from '../errors.ts';
import { checkKeys, shown } from './check-keys.ts';
import type { WhenFull } from './run.ts';
import { checkOwnEventType } from './stream-context.ts';
import type { Isolation } from './task-options.ts';

const isolations = { inline: true, thread: true, process: true } satisfies Record<Isolation, true>;
const whenFull = {
  queue: true,
  reject: true,
  'cancel-oldest': true,
  'cancel-newest': true,
} satisfies Record<WhenFull, true>;
const ownKeys = {
  task: ['id', 'input', 'output', 'events', 'retry', 'timeout', 'concurrency', 'isolation', 'module', 'run'],
  retry: ['attempts', 'minMs', 'maxMs', 'when'],
  timeout: ['attemptMs', 'totalMs', 'graceMs'],
  concurrency: ['key', 'limit', 'onFull'],
} as const;
/** The longest that one timer waits. */
const maxMs = 2 ** 31 - 1;

/** Throws `invalid-argument`, naming the task and the option, for what `defineTask` cannot take: types do not reach plain JavaScript. */
export function checkTask(options: unknown): void {
  checkKeys('defineTask', options, ownKeys.task);
  const { id, input, output, events, retry, timeout, concurrency, isolation, module, run } = options as Record<
    (typeof ownKeys.task)[number],
    unknown
  >;
  if (typeof id !== 'string' || !/^[A-Za-z0-9._-]{1,64}$/.test(id))
    throw new HubError('invalid-argument', `task id ${shown(id)}: it has to be 1 to 64 of A-Z a-z 0-9 . _ -`);
  const refuse = (what: string): never => {
    throw new HubError('invalid-argument', `task ${id}: ${what}`);
  };
  if (!isSchema(input)) refuse('input is not a schema (Standard Schema v1)');
  if (output !== undefined && !isSchema(output)) refuse('output is not a schema (Standard Schema v1)');
  if (typeof run !== 'function') refuse(`run is ${shown(run)}, it has to be a function`);
  if (events !== undefined) checkEvents(id, events);
  if (retry !== undefined) checkRetry(`task ${id}: retry`, retry);
  if (timeout !== undefined) {
    checkKeys(`task ${id}: timeout`, timeout, ownKeys.timeout);
    for (const [name, ms] of Object.entries(timeout as object))
      if (ms !== undefined && !(ms > 0 && ms <= maxMs) && !(ms === 0 && name === 'graceMs'))
        refuse(`timeout.${name} is ${shown(ms)}, it has to be more than 0 ms, and at most ${maxMs} (24 days)`);
  }
  if (concurrency !== undefined) checkConcurrency(`task ${id}: concurrency`, concurrency);
  if (isolation !== undefined && !Object.hasOwn(isolations, String(isolation)))
    refuse(`isolation is ${shown(isolation)}, there are: ${Object.keys(isolations).join(', ')}`);
  if (isolation !== undefined && isolation !== 'inline' && module === undefined)
    refuse(`isolation "${isolation}" needs module: import.meta.url, so that it can be loaded there`);
  if (module !== undefined && !(typeof module === 'string' && module.startsWith('file:')))
    refuse(`module ${shown(module)} is no file: URL`);
}

function isSchema(value: unknown): boolean {
  const standard = (value as { '~standard'?: { validate?: unknown } } | undefined | null)?.['~standard'];
  return typeof standard?.validate === 'function';
}

function checkEvents(id: string, events: unknown): void {
  if (typeof events !== 'object' || events === null)
    throw new HubError('invalid-argument', `task ${id}: events is ${shown(events)}, not an object of schemas by name`);
  for (const [name, schema] of Object.entries(events)) {
    checkOwnEventType(name);
    if (!isSchema(schema))
      throw new HubError('invalid-argument', `task ${id}: events.${name} is not a schema (Standard Schema v1)`);
  }
}

function checkRetry(what: string, retry: unknown): void {
  checkKeys(what, retry, ownKeys.retry);
  const { attempts = 1, minMs = 1000, maxMs = 60_000, when } = retry as Record<string, never>;
  if (!Number.isInteger(attempts) || attempts < 1)
    throw new HubError('invalid-argument', `${what}.attempts is ${shown(attempts)}, it has to be at least 1`);
  if (!(minMs > 0 && minMs <= maxMs && maxMs < Number.POSITIVE_INFINITY))
    throw new HubError(
      'invalid-argument',
      `${what} waits from ${minMs} to ${maxMs} ms: 0 < minMs <= maxMs is asked for`,
    );
  if (when !== undefined && typeof when !== 'function')
    throw new HubError('invalid-argument', `${what}.when is ${shown(when)}, it has to be a function`);
}

function checkConcurrency(what: string, concurrency: unknown): void {
  checkKeys(what, concurrency, ownKeys.concurrency);
  const { key = '', limit = 1, onFull = 'queue' } = concurrency as Record<string, unknown>;
  if (typeof key !== 'string' && typeof key !== 'function')
    throw new HubError('invalid-argument', `${what}.key is ${shown(key)}, it has to be a text or a function`);
  if (!Number.isInteger(limit) || (limit as number) < 1)
    throw new HubError('invalid-argument', `${what}.limit is ${shown(limit)}, it has to be at least 1`);
  if (!Object.hasOwn(whenFull, String(onFull)))
    throw new HubError(
      'invalid-argument',
      `${what}.onFull is ${shown(onFull)}, there are: ${Object.keys(whenFull).join(', ')}`,
    );
}
