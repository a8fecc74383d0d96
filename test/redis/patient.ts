import { toHubError } from '../../src/errors.ts';
import { eventually } from '../support/eventually.ts';

/** Makes calls that may be repeated, again while Redis does not answer in the short time that suites of faults give it. */
export function patient<T extends object>(port: T): T {
  return new Proxy(port, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? (...args: unknown[]) => patiently(() => value.apply(target, args)) : value;
    },
  });
}

/** The same of anything: a refusal with another code than `unavailable` is thrown at once. */
export async function patiently<T>(call: () => T | Promise<T>): Promise<T> {
  const done = await eventually(async () => {
    try {
      return { value: await call() };
    } catch (error) {
      if (toHubError(error).code === 'unavailable') throw error;
      return { error };
    }
  });
  if ('error' in done) throw done.error;
  return done.value;
}
