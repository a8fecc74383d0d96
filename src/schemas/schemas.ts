import type { DescMessage, JsonObject, JsonValue, Registry } from '@bufbuild/protobuf';
import { fromBinary, fromJson, toBinary, toJson } from '@bufbuild/protobuf';
import { HubError, toHubError } from '../errors.ts';
import type { Payload } from '../protocol/command.ts';
import { MethodNames } from './method-names.ts';
import { didYouMean } from './nearest.ts';
import type { DeviceMethod, PayloadJson, PayloadSource } from './payload-json.ts';
import { checkKeys } from './unknown-keys.ts';

/** Message types and methods of one or more registries, as JSON. The first registry that knows a name wins. */
export class Schemas implements PayloadJson {
  readonly #registries: readonly Registry[];
  readonly #methods: MethodNames;
  readonly #messages = new Map<string, DescMessage>();

  constructor(...registries: Registry[]) {
    this.#registries = registries;
    this.#methods = new MethodNames(registries);
    for (const registry of registries)
      for (const desc of registry)
        if (desc.kind === 'message' && !this.#messages.has(desc.typeName)) this.#messages.set(desc.typeName, desc);
  }

  /** These and others: names of `this` win. */
  and(other: Schemas): Schemas {
    return new Schemas(...this.#registries, ...other.#registries);
  }

  methods(): readonly DeviceMethod[] {
    return this.#methods.list();
  }

  encode({ method, type, json }: PayloadSource): Payload {
    if ((method === undefined) === (type === undefined))
      throw new HubError('invalid-argument', 'a payload needs either a method or a message type');
    if (method === undefined) {
      const message = this.#messageNamed(type!);
      return { type: message.typeName, value: this.#bytes(message, json) };
    }
    const found = this.#methods.find(method);
    return { type: `${found.parent.typeName}/${found.name}`, value: this.#bytes(found.input, json) };
  }

  decode(payload: Payload): unknown | undefined {
    const message = this.#methods.byPath(payload.type)?.input ?? this.#messages.get(payload.type);
    if (message === undefined) return undefined;
    try {
      return toJson(message, fromBinary(message, payload.value), {
        alwaysEmitImplicit: true,
        registry: this.#registryOf(message),
      });
    } catch {
      // The port says so: bytes that are not of their type cannot be shown as JSON, and callers show base64 instead.
      return undefined;
    }
  }

  #bytes(message: DescMessage, json: unknown): Uint8Array {
    const value = json ?? {};
    checkKeys(message, value);
    try {
      return toBinary(
        message,
        fromJson(message, value as JsonObject as JsonValue, { registry: this.#registryOf(message) }),
      );
    } catch (error) {
      throw new HubError('invalid-argument', toHubError(error).message, { cause: error });
    }
  }

  #messageNamed(name: string): DescMessage {
    const exact = this.#messages.get(name);
    if (exact !== undefined) return exact;
    const candidates = [...this.#messages.keys()].filter((full) => full.endsWith(`.${name}`));
    if (candidates.length === 1) return this.#messages.get(candidates[0]!)!;
    if (candidates.length > 1)
      throw new HubError('invalid-argument', `type "${name}" is ambiguous: ${candidates.sort().join(', ')}`);
    const shorts = [...this.#messages.keys()].map((full) =>
      name.includes('.') ? full : full.slice(full.lastIndexOf('.') + 1),
    );
    throw new HubError('invalid-argument', `no message type "${name}" is known${didYouMean(name, shorts)}`);
  }

  #registryOf(message: DescMessage): Registry {
    return this.#registries.find((registry) => registry.getMessage(message.typeName) === message)!;
  }
}
