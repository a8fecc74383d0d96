import type { DescriptorProto, FileDescriptorProto } from '@bufbuild/protobuf/wkt';
import { HubError } from '../errors.ts';

/**
 * proto-loader makes one file for each package, with types named as they were written, no imports and no JSON names.
 * This completes them in place, so that a registry can be made of them.
 */
export function completeFiles(files: FileDescriptorProto[]): FileDescriptorProto[] {
  const homes = new Map<string, FileDescriptorProto>();
  for (const file of files) {
    const add = (name: string): unknown => homes.set(name, file);
    for (const each of file.enumType) add(join(file.package, each.name));
    for (const message of file.messageType) addMessage(join(file.package, message.name), message, add);
  }

  for (const file of files) {
    const imports = new Set<string>();
    const link = (name: string, scope: string): string => {
      const full = resolveName(name, scope, homes);
      const home = homes.get(full)!;
      if (home !== file) imports.add(home.name);
      return `.${full}`;
    };
    for (const message of file.messageType) completeMessage(message, join(file.package, message.name), link);
    for (const service of file.service)
      for (const method of service.method) {
        method.inputType = link(method.inputType, file.package);
        method.outputType = link(method.outputType, file.package);
      }
    file.dependency = [...imports];
  }
  return files;
}

const join = (scope: string, name: string): string => (scope === '' ? name : `${scope}.${name}`);

function addMessage(name: string, message: DescriptorProto, add: (name: string) => unknown): void {
  add(name);
  for (const each of message.enumType) add(join(name, each.name));
  for (const nested of message.nestedType) addMessage(join(name, nested.name), nested, add);
}

function completeMessage(message: DescriptorProto, name: string, link: (name: string, scope: string) => string): void {
  for (const field of message.field) {
    if (field.typeName !== '') field.typeName = link(field.typeName, name);
    if (field.jsonName === '') field.jsonName = field.name.replaceAll(/_+(.)/g, (_, letter) => letter.toUpperCase());
  }
  for (const nested of message.nestedType) completeMessage(nested, join(name, nested.name), link);
}

/** As protobuf does: from the innermost scope outwards. */
function resolveName(name: string, scope: string, homes: ReadonlyMap<string, unknown>): string {
  if (name.startsWith('.')) {
    if (homes.has(name.slice(1))) return name.slice(1);
  } else {
    for (let within = scope; ; within = within.slice(0, Math.max(0, within.lastIndexOf('.')))) {
      if (homes.has(join(within, name))) return join(within, name);
      if (within === '') break;
    }
  }
  throw new HubError('invalid-argument', `type "${name}", used in ${scope}, is not defined`);
}
