import { create, createFileRegistry, fromBinary } from '@bufbuild/protobuf';
import { type FileDescriptorProto, type FileDescriptorSet, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { HubError, toHubError } from '../errors.ts';
import { Schemas } from './schemas.ts';

/**
 * Types of a FileDescriptorSet, as `buf build -o` and `protoc --descriptor_set_out --include_imports` write it.
 * Throws `invalid-argument` when the bytes are not one, or a file that it imports is missing.
 */
export function schemasFromDescriptors(descriptorSet: Uint8Array): Schemas {
  let set: FileDescriptorSet;
  try {
    set = fromBinary(FileDescriptorSetSchema, descriptorSet);
  } catch (error) {
    throw new HubError('invalid-argument', `not a FileDescriptorSet: ${toHubError(error).message}`, { cause: error });
  }
  return schemasFromFiles(set.file);
}

/** Types of files in any order. Throws `invalid-argument` when an import is missing. */
export function schemasFromFiles(files: readonly FileDescriptorProto[]): Schemas {
  try {
    return new Schemas(createFileRegistry(create(FileDescriptorSetSchema, { file: inOrder(files) })));
  } catch (error) {
    if (error instanceof HubError) throw error;
    throw new HubError('invalid-argument', `cannot read descriptors: ${toHubError(error).message}`, { cause: error });
  }
}

/** Each file after those that it imports, as the registry wants them. */
function inOrder(files: readonly FileDescriptorProto[]): FileDescriptorProto[] {
  const byName = new Map(files.map((file) => [file.name, file]));
  const ordered = new Set<FileDescriptorProto>();
  const entered = new Set<string>();
  const visit = (file: FileDescriptorProto): void => {
    if (entered.has(file.name)) return;
    entered.add(file.name);
    for (const name of file.dependency) {
      const dependency = byName.get(name);
      if (dependency === undefined)
        throw new HubError('invalid-argument', `${file.name} imports ${name}, which the descriptors do not hold`);
      visit(dependency);
    }
    ordered.add(file);
  };
  for (const file of files) visit(file);
  return [...ordered];
}
