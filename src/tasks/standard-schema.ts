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
  const result = await schema['~standard'].validate(value);
  if (result.issues === undefined) return result.value;
  const [issue] = result.issues;
  const path = (issue?.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
  const where = path === '' ? what : `${what}.${path}`;
  throw new HubError('invalid-argument', `${where.slice(0, 200)}: ${(issue?.message ?? 'not valid').slice(0, 500)}`);
}
