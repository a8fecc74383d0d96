import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import type { FileDescriptorProto } from '@bufbuild/protobuf/wkt';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { HubError, toHubError } from '../errors.ts';
import { schemasFromFiles } from './from-descriptors.ts';
import { completeFiles } from './loader-descriptors.ts';
import type { Schemas } from './schemas.ts';

export interface ProtoTextOptions {
  /** Folders in which imports are looked for, beside the files' own. Default: the current one. */
  includeDirs?: readonly string[];
}

/**
 * Types of `.proto` files, read as text: no compiler is needed. Custom `json_name` options are not seen; where they
 * matter, use `schemasFromDescriptors`. Throws `invalid-argument` naming a file that is missing or cannot be read.
 */
export async function schemasFromProto(files: readonly string[], options: ProtoTextOptions = {}): Promise<Schemas> {
  const includeDirs = [...(options.includeDirs ?? ['.']).map((dir) => resolve(dir))];
  for (const file of files) {
    const found = existsSync(file) || includeDirs.some((dir) => existsSync(resolve(dir, file)));
    if (!found) throw new HubError('invalid-argument', `no such file: ${file}`);
    includeDirs.push(dirname(resolve(file)));
  }
  const { load } = await import('@grpc/proto-loader');
  try {
    const definitions = await load([...files], { keepCase: true, includeDirs });
    return schemasFromFiles(completeFiles(parseAll(Object.values(definitions))));
  } catch (error) {
    if (error instanceof HubError) throw error;
    throw new HubError('invalid-argument', `cannot read ${files.join(', ')}: ${toHubError(error).message}`, {
      cause: error,
    });
  }
}

function parseAll(definitions: readonly object[]): FileDescriptorProto[] {
  const byName = new Map<string, FileDescriptorProto>();
  for (const definition of definitions) {
    if (!('fileDescriptorProtos' in definition)) continue; // a service; its messages carry the files
    for (const bytes of definition.fileDescriptorProtos as Uint8Array[]) {
      const file = fromBinary(FileDescriptorProtoSchema, bytes);
      byName.set(file.name, file);
    }
  }
  return [...byName.values()];
}
