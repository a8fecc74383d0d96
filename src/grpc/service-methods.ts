import type { ServiceDefinition as GrpcJsServiceDefinition } from '@grpc/grpc-js';
import type { CompatServiceDefinition } from 'nice-grpc';
import { encodeMessage, type MessageType } from '../protocol/codec.ts';

/** A method as grpc-js wants it, whichever tool has written its definition. */
export interface Method {
  readonly path: string;
  readonly kind: 'unary' | 'serverStream' | 'clientStream' | 'bidi';
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  serialize(value: unknown): Buffer;
  deserialize(bytes: Buffer): unknown;
}

/** The methods of a definition by the names of their implementations. */
export function methodsOf(definition: CompatServiceDefinition): [string, Method][] {
  if (isTsProto(definition))
    return Object.entries(definition.methods).map(([name, method]) => [
      name,
      {
        path: `/${definition.fullName}/${method.name}`,
        kind: kindOf(method),
        requestStream: method.requestStream,
        responseStream: method.responseStream,
        serialize: (value) => asBuffer(encodeMessage(method.responseType, value)),
        deserialize: (bytes) => method.requestType.decode(bytes),
      },
    ]);
  return Object.entries(definition as GrpcJsServiceDefinition).map(([name, method]) => [
    name,
    {
      path: method.path,
      kind: kindOf(method),
      requestStream: method.requestStream,
      responseStream: method.responseStream,
      serialize: (value) => asBuffer(method.responseSerialize(value)),
      deserialize: (bytes) => method.requestDeserialize(bytes),
    },
  ]);
}

/** The full names of a definition's services: `signalbox.v1.ClientService`. */
export function serviceNameOf(definition: CompatServiceDefinition): string {
  return methodsOf(definition)[0]?.[1].path.split('/')[1] ?? '';
}

interface TsProtoMethod {
  readonly name: string;
  readonly requestType: { decode(bytes: Uint8Array): unknown };
  readonly requestStream: boolean;
  readonly responseType: MessageType<unknown>;
  readonly responseStream: boolean;
}

function isTsProto(
  definition: object,
): definition is { fullName: string; methods: Readonly<Record<string, TsProtoMethod>> } {
  return typeof Reflect.get(definition, 'fullName') === 'string';
}

function kindOf(method: { requestStream: boolean; responseStream: boolean }): Method['kind'] {
  if (method.requestStream) return method.responseStream ? 'bidi' : 'clientStream';
  return method.responseStream ? 'serverStream' : 'unary';
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
