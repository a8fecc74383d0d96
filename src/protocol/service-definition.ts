import type { MessageType } from './codec.ts';

/** A gRPC service as ts-proto describes it (`outputServices=generic-definitions`): the contract of a device. */
export interface ServiceDefinition {
  readonly name: string;
  /** Name with its package: `signalbox.example.v1.PumpService`. */
  readonly fullName: string;
  readonly methods: Readonly<Record<string, MethodDefinition>>;
}

/** One method of a service. */
export interface MethodDefinition {
  /** As in the .proto file: `Start`. Its key in `methods` is the name in code: `start`. */
  readonly name: string;
  readonly requestType: MessageShape;
  readonly requestStream: boolean;
  readonly responseType: MessageShape;
  readonly responseStream: boolean;
}

/** Any generated message type; `never` lets every one of them fit, and `messageType` gives its verbs back. */
export interface MessageShape {
  readonly $type: string;
  encode(message: never, writer?: never): { finish(): Uint8Array };
  decode(input: Uint8Array, length?: number): unknown;
  fromPartial?(object: never): unknown;
}

/** The value that a message type describes. */
export type MessageOf<M extends MessageShape> = ReturnType<M['decode']>;
export type RequestOf<M extends MethodDefinition> = MessageOf<M['requestType']>;
export type ResponseOf<M extends MethodDefinition> = MessageOf<M['responseType']>;

/** The shape with its verbs typed again. */
export function messageType<T>(shape: MessageShape): MessageType<T> & { fromPartial?(object: unknown): T } {
  return shape as unknown as MessageType<T> & { fromPartial?(object: unknown): T };
}

/** `payload.type` of a call of this method: `signalbox.example.v1.PumpService/Start`. */
export function methodType(service: ServiceDefinition, method: MethodDefinition): string {
  return `${service.fullName}/${method.name}`;
}

type Builtin = Date | Uint8Array | string | number | bigint | boolean | undefined | ((...args: never[]) => unknown);

/** A message of which any part may be left out, as ts-proto's `fromPartial` takes it. */
export type DeepPartial<T> = T extends Builtin
  ? T
  : T extends ReadonlyArray<infer U>
    ? ReadonlyArray<DeepPartial<U>>
    : T extends { $case: string; value: unknown }
      ? { $case: T['$case']; value?: DeepPartial<T['value']> }
      : T extends object
        ? { [K in keyof T]?: DeepPartial<T[K]> }
        : Partial<T>;
