import type { Command } from 'commander';
import { HubError } from '../errors.ts';
import type { Payload } from '../protocol/command.ts';
import type { Schemas } from '../schemas/index.ts';
import { collect, looksLikeJson, readJson } from './arguments.ts';
import { type Outside, readAll } from './terminal.ts';

/** Message types that are not built in. */
export interface ProtoOptions {
  proto?: string[];
  protoPath?: string[];
}

/** How a payload is described on the command line. */
export interface PayloadOptions extends ProtoOptions {
  type?: string;
}

export function withProtoOptions(command: Command): Command {
  return command
    .option('--proto <file>', 'message types from a .proto file; may be repeated', collect)
    .option('--proto-path <dir>', 'where imports of --proto are looked for; may be repeated', collect);
}

export function withPayloadOptions(command: Command): Command {
  return withProtoOptions(command).option('--type <message>', 'send this message type, not the request of a method');
}

/** The types that are built in, and those of `--proto` before them. */
export async function loadSchemas({ proto, protoPath }: ProtoOptions): Promise<Schemas> {
  const [{ descriptors }, { schemasFromDescriptors, schemasFromProto }] = await Promise.all([
    import('../grpc/descriptors.ts'),
    import('../schemas/index.ts'),
  ]);
  const builtIn = schemasFromDescriptors(Buffer.from(descriptors, 'base64'));
  if (proto === undefined) return builtIn;
  const own = await schemasFromProto(proto, protoPath === undefined ? {} : { includeDirs: protoPath });
  return own.and(builtIn);
}

/** A payload, and the types to show its answers with. */
export interface EncodedPayload {
  readonly payload: Payload;
  readonly schemas: Schemas;
}

/**
 * Encodes what `<method> [json]` or `--type <message> [json]` say. A method that is not known here is asked for at
 * `reflect`. Throws `invalid-argument`.
 */
export async function encodePayload(
  [first, second]: readonly [string | undefined, string | undefined],
  options: PayloadOptions,
  outside: Outside,
  reflect?: () => Promise<Schemas>,
): Promise<EncodedPayload> {
  const isBare = options.type !== undefined && (first === undefined || (second === undefined && looksLikeJson(first)));
  const method = isBare ? undefined : first;
  if (method === undefined && options.type === undefined)
    throw new HubError('invalid-argument', 'name a method, or a message with --type');
  const json = await readJson(isBare ? first : second, () => readAll(outside.stdin));
  const encode = (schemas: Schemas): EncodedPayload => ({
    schemas,
    payload: payloadOf(schemas, method, options.type, json),
  });

  const schemas = await loadSchemas(options);
  try {
    return encode(schemas);
  } catch (error) {
    if (reflect === undefined || options.proto !== undefined || !isUnknownName(error)) throw error;
    const reflected = await reflect().catch(() => undefined);
    // A server without reflection teaches nothing; the first error says what was missing.
    if (reflected === undefined) throw error;
    return encode(schemas.and(reflected));
  }
}

function payloadOf(schemas: Schemas, method: string | undefined, type: string | undefined, json: unknown): Payload {
  if (type === undefined) return schemas.encode({ method, json });
  const payload = schemas.encode({ type, json });
  if (method === undefined) return payload;
  // Both: a method that no description tells of, with a message that one does.
  if (!/^\/?[\w.]+\/\w+$/.test(method))
    throw new HubError('invalid-argument', `with --type, write the method in full (pkg.v1.Service/${method})`);
  return { type: method.replace(/^\//, ''), value: payload.value };
}

const isUnknownName = (error: unknown): boolean => error instanceof HubError && /is known/.test(error.message);
