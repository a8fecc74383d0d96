import { HubError } from '../errors.ts';

/**
 * What every schema library that follows Standard Schema v1 offers (zod, valibot, arktype, ...): enough of it to check
 * a value and to infer its types.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

export type StandardResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly StandardIssue[] };

export interface StandardIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** What a caller gives to the schema. */
export type InputOf<S> = S extends StandardSchema<infer Input, unknown> ? Input : never;
/** What comes out of the schema. */
export type OutputOf<S> = S extends StandardSchema<never, infer Output> ? Output : never;

/** The value as the schema makes it. Throws `invalid-argument` naming `what` and the place in it. */
export async function parseWith<Output>(
  schema: StandardSchema<unknown, Output>,
  value: unknown,
  what: string,
): Promise<Output> {
  return checkWith(schema, value, what);
}

/** The same, at once where the schema answers at once. Throws `internal` for a schema that falls over a value. */
export function checkWith<Output>(
  schema: StandardSchema<unknown, Output>,
  value: unknown,
  what: string,
): Output | Promise<Output> {
  const fell = (error: unknown): never => {
    const why = error instanceof Error ? error.message : String(error);
    throw new HubError('internal', `the schema of ${what} fell over a value: ${why}`, { cause: error });
  };
  let result: StandardResult<Output> | Promise<StandardResult<Output>>;
  try {
    result = schema['~standard'].validate(value);
  } catch (error) {
    return fell(error);
  }
  if (!isPromise(result)) return outcomeOf(result, what);
  return Promise.resolve(result).then((given) => outcomeOf(given, what), fell);
}

function outcomeOf<Output>(result: StandardResult<Output>, what: string): Output {
  if (typeof result !== 'object' || result === null)
    throw new HubError('internal', `the schema of ${what} answered ${result}: it does not follow Standard Schema v1`);
  if (result.issues === undefined) return result.value;
  const [issue] = result.issues;
  const path = (issue?.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
  const where = path === '' ? what : `${what}.${path}`;
  throw new HubError('invalid-argument', `${where.slice(0, 200)}: ${(issue?.message ?? 'not valid').slice(0, 500)}`);
}

const isPromise = <T>(value: T | Promise<T>): value is Promise<T> =>
  typeof (value as Promise<T> | undefined)?.then === 'function';
