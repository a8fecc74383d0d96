import type { DescMethod, Registry } from '@bufbuild/protobuf';
import { HubError } from '../errors.ts';
import { nearest } from './nearest.ts';
import type { DeviceMethod } from './payload-json.ts';

/** Finds methods by the names that people write. */
export class MethodNames {
  readonly #methods = new Map<string, DescMethod>();

  constructor(registries: readonly Registry[]) {
    for (const registry of registries)
      for (const desc of registry) {
        if (desc.kind !== 'service' || isOurs(desc.typeName)) continue;
        for (const method of desc.methods)
          if (!this.#methods.has(path(method))) this.#methods.set(path(method), method);
      }
  }

  byPath(fullPath: string): DescMethod | undefined {
    return this.#methods.get(fullPath);
  }

  list(): DeviceMethod[] {
    return [...this.#methods.values()].map((method) => ({
      path: path(method),
      shortName: method.localName,
      requestType: method.input.typeName,
      responseType: method.output.typeName,
      streams: method.methodKind === 'server_streaming',
    }));
  }

  /** Throws `invalid-argument` for a name that none or several methods have. */
  find(name: string): DescMethod {
    const asked = name.replace(/^\//, '');
    const exact = this.#methods.get(asked);
    if (exact !== undefined) return exact;

    const all = [...this.#methods.values()];
    // `Service/method`, `pkg.v1.Service/method` and `Service.method` narrow the service; a bare name does not.
    const [, service, word] = /^(?:(.*)[/.])?([^/.]+)$/.exec(asked) ?? [undefined, undefined, asked];
    const matches = all.filter(
      (method) =>
        same(method.name, word ?? asked) &&
        (service === undefined ||
          method.parent.typeName === service ||
          method.parent.typeName.endsWith(`.${service}`) ||
          same(method.parent.name, service) ||
          same(method.parent.name, `${service}Service`)),
    );
    if (matches.length === 1) return matches[0]!;
    if (matches.length > 1)
      throw new HubError(
        'invalid-argument',
        `method "${name}" is ambiguous: write one of ${matches.map(path).sort().join(', ')}`,
      );
    throw new HubError('invalid-argument', `no method "${name}" is known${hint(word ?? asked, all)}`);
  }
}

const path = (method: DescMethod): string => `${method.parent.typeName}/${method.name}`;

// `configUpdate`, `ConfigUpdate`, `config_update` and `config-update` are one word to people.
const same = (a: string, b: string): boolean =>
  a.replaceAll(/[_-]/g, '').toLowerCase() === b.replaceAll(/[_-]/g, '').toLowerCase();

/** The hub's own services and gRPC's are never what a device implements. */
const isOurs = (service: string): boolean => service.startsWith('signalbox.v1.') || service.startsWith('grpc.');

function hint(word: string, methods: DescMethod[]): string {
  if (methods.length === 0) return ': no service descriptions are loaded';
  const names = methods.map((method) => method.localName);
  const guess = nearest(word, names);
  return guess === undefined ? `; known: ${names.slice(0, 20).join(', ')}` : ` (did you mean "${guess}"?)`;
}
