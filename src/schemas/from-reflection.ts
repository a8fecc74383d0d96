import { fromBinary } from '@bufbuild/protobuf';
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { type FileDescriptorProto, FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import type { Client } from '@grpc/grpc-js';
import { HubError, toHubError } from '../errors.ts';
import { schemasFromFiles } from './from-descriptors.ts';
import type { Schemas } from './schemas.ts';

const path = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';

// Numbers of the fields of grpc/reflection/v1/reflection.proto.
const ask = { fileByName: 3, fileWithSymbol: 4, services: 7 } as const;
const told = { files: 4, services: 6, error: 7 } as const;

/**
 * Types that a gRPC server tells by its reflection service. Throws `unavailable` when it does not answer within
 * `timeoutMs` (default 5000) and `unimplemented` when it has no reflection.
 */
export async function schemasFromReflection(
  client: Pick<Client, 'makeBidiStreamRequest'>,
  { timeoutMs = 5000 }: { timeoutMs?: number } = {},
): Promise<Schemas> {
  const call = client.makeBidiStreamRequest(path, toBuffer, (bytes: Buffer) => bytes, {
    deadline: Date.now() + timeoutMs,
  } as never);
  const answers = (call as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  const request = async (field: number, value: string): Promise<Answer> => {
    call.write(
      new BinaryWriter()
        .uint32((field << 3) | 2)
        .string(value)
        .finish(),
    );
    const next = await answers.next();
    if (next.done) throw new HubError('unavailable', 'the server ended its reflection stream');
    return readAnswer(next.value);
  };

  const files = new Map<string, FileDescriptorProto>();
  const keep = (answer: Answer): void => {
    for (const bytes of answer.files) {
      const file = fromBinary(FileDescriptorProtoSchema, bytes);
      files.set(file.name, file);
    }
  };
  try {
    for (const service of (await request(ask.services, '')).services) {
      // A service that the server lists but cannot describe is no reason to refuse the others.
      keep(await request(ask.fileWithSymbol, service));
    }
    for (let missing = missingImports(files); missing.length > 0; missing = missingImports(files))
      for (const name of missing) {
        const answer = await request(ask.fileByName, name);
        if (answer.files.length === 0)
          throw new HubError(
            'unavailable',
            `the server's reflection does not know ${name}: ${answer.error ?? 'no file'}`,
          );
        keep(answer);
        if (!files.has(name))
          throw new HubError('unavailable', `the server's reflection gave another file for ${name}`);
      }
  } catch (error) {
    throw asHubError(error);
  } finally {
    call.on('error', ignoreCancel);
    call.cancel();
  }
  return schemasFromFiles([...files.values()]);
}

interface Answer {
  readonly files: Uint8Array[];
  readonly services: string[];
  readonly error?: string;
}

function readAnswer(bytes: Uint8Array): Answer {
  const answer: { files: Uint8Array[]; services: string[]; error?: string } = { files: [], services: [] };
  for (const [field, value] of fields(bytes)) {
    if (field === told.files) for (const [inner, file] of fields(value)) if (inner === 1) answer.files.push(file);
    if (field === told.services)
      for (const [inner, service] of fields(value))
        if (inner === 1) for (const [part, name] of fields(service)) if (part === 1) answer.services.push(text(name));
    if (field === told.error) for (const [part, message] of fields(value)) if (part === 2) answer.error = text(message);
  }
  return answer;
}

/** The length-delimited fields of a message. */
function* fields(bytes: Uint8Array): Iterable<readonly [field: number, value: Uint8Array]> {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (wireType === 2) yield [field, reader.bytes()];
    else reader.skip(wireType, field);
  }
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8');
const toBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes);
const ignoreCancel = (): void => undefined;

function missingImports(files: ReadonlyMap<string, FileDescriptorProto>): string[] {
  return [...files.values()].flatMap((file) => file.dependency).filter((name) => !files.has(name));
}

function asHubError(error: unknown): HubError {
  const status = (error as { code?: unknown }).code;
  if (status === 12) return new HubError('unimplemented', 'the server has no reflection service', { cause: error });
  if (typeof status === 'number')
    return new HubError('unavailable', `reflection failed: ${toHubError(error).message}`, { cause: error });
  return toHubError(error);
}
