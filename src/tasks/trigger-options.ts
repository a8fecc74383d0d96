import { HubError } from '../errors.ts';
import { checkCommandId, checkTenant } from '../protocol/checks.ts';
import { checkKeys, shown } from './check-keys.ts';
import type { Task } from './define-task.ts';
import type { RunConcurrency } from './run.ts';

export interface TriggerOptions {
  /** Default: `default`. */
  readonly tenant?: string | undefined;
  /** Id of the run. Default: a new UUID. */
  readonly id?: string | undefined;
  /** Two triggers of a task with one key are one run. With another input it is `idempotency-conflict`. */
  readonly idempotencyKey?: string | undefined;
  /** Not before so many ms. Default: 0. */
  readonly delayMs?: number | undefined;
  /** Whose run it is: its end is also told on `user.<owner>`. */
  readonly owner?: string | undefined;
  /** At most 20, to find runs by. */
  readonly tags?: readonly string[] | undefined;
  /** -100 to 100; higher ones run first. Default: 0. */
  readonly priority?: number | undefined;
}

const keys = ['tenant', 'id', 'idempotencyKey', 'delayMs', 'owner', 'tags', 'priority'];

/** What a run of this input shares with others. Throws `internal` for a key of the task that falls over it. */
export function concurrencyOf({ id, concurrency }: Task, input: unknown): RunConcurrency | undefined {
  if (!concurrency) return undefined;
  const { key = '', limit = 1, onFull = 'queue' } = concurrency;
  let named: unknown = key;
  if (typeof key === 'function')
    try {
      named = (key as (input: unknown) => unknown)(input);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new HubError('internal', `task ${id}: its concurrency key fell over the input: ${why}`, { cause: error });
    }
  if (typeof named !== 'string' || named.length > 256)
    throw new HubError(
      'invalid-argument',
      `task ${id}: the concurrency key is ${shown(named)}, it has to be a text of at most 256 characters`,
    );
  return { key: named, limit, onFull };
}

/** Throws `invalid-argument` naming the option at fault. */
export function checkTrigger(options: TriggerOptions & { readonly tenant: string; readonly id: string }): void {
  checkKeys('trigger', options, keys);
  const { tenant, id, idempotencyKey, delayMs = 0, owner, tags = [], priority = 0 } = options;
  const refuse = (message: string): never => {
    throw new HubError('invalid-argument', message);
  };
  checkTenant(tenant);
  checkCommandId(id);
  if (idempotencyKey !== undefined && !/^[\x21-\x7e]{1,128}$/.test(idempotencyKey))
    refuse(`idempotencyKey ${JSON.stringify(idempotencyKey)}: 1 to 128 visible ASCII characters are asked for`);
  if (!(delayMs >= 0 && delayMs <= 366 * 24 * 3600_000)) refuse(`delayMs is ${delayMs}, it has to be 0 to 366 days`);
  if (owner !== undefined && !/^[\x21-\x7e]{1,128}$/.test(owner))
    refuse(`owner ${JSON.stringify(owner)} is no subject`);
  if (owner !== undefined && /[/?#*&,"\\]/.test(owner))
    refuse(`owner ${JSON.stringify(owner)} has / ? # * & , " or \\`);
  if (tags.length > 20 || tags.some((tag) => typeof tag !== 'string' || tag === '' || tag.length > 64))
    refuse('tags: at most 20, of 1 to 64 characters each');
  if (!Number.isInteger(priority) || Math.abs(priority) > 100)
    refuse(`priority is ${priority}, it has to be -100 to 100`);
}
