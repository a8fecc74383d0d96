import { type BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { HubError } from '../errors.ts';

/** Turns one type of value into a command's payload and back. `protoCodec` makes one of a generated message. */
export interface CommandCodec<T> {
  /** Full name of the type, as it stands in `payload.type`. The device finds its handler by it. */
  readonly type: string;
  encode(value: T): Uint8Array;
  /** Throws on bytes that are not a `T`. */
  decode(bytes: Uint8Array): T;
}

/** What a generated ts-proto message brings along (`outputTypeAnnotations=static-only`). */
export interface MessageType<T> {
  readonly $type: string;
  encode(message: T, writer?: BinaryWriter): BinaryWriter;
  decode(input: BinaryReader | Uint8Array, length?: number): T;
}

/** The codec of a generated message type. `type` is another name to send it under; default: the message's own. */
export function protoCodec<T>(message: MessageType<T>, type: string = message.$type): CommandCodec<T> {
  return {
    type,
    encode: (value) => encodeMessage(message, value),
    decode: (bytes) => message.decode(bytes),
  };
}

// One writer for all messages: it is empty again after finish(), and reuse halves the cost of encoding.
const writer = new BinaryWriter();

/** Throws `invalid-argument` naming the type when a field has a value that it cannot hold. */
export function encodeMessage<T>(message: MessageType<T>, value: T): Uint8Array {
  try {
    return message.encode(value, writer).finish();
  } catch (error) {
    writer.finish(); // drops what was half written
    const reason = error instanceof Error ? error.message : String(error);
    throw new HubError('invalid-argument', `cannot encode ${message.$type}: ${reason}`, { cause: error });
  }
}
