import { HubError } from '../errors.ts';
import type { CommandCodec } from '../protocol/codec.ts';
import type { Payload } from '../protocol/command.ts';

/** Encodes with any codec; what it throws becomes `invalid-argument` naming the type. */
export function toPayload<T>(codec: CommandCodec<T>, value: T): Payload {
  try {
    return { type: codec.type, value: codec.encode(value) };
  } catch (error) {
    if (error instanceof HubError) throw error;
    throw new HubError('invalid-argument', `cannot encode ${codec.type}: ${reasonOf(error)}`, { cause: error });
  }
}

/** Reads an answer or an item. Throws `internal` when it is of another type, or no such message. */
export function fromPayload<T>(codec: CommandCodec<T>, payload: Payload, commandId: string): T {
  // Devices that are not built with our library may leave the type out.
  if (payload.type !== '' && payload.type !== codec.type) {
    const text = `the answer to command ${commandId} is a ${payload.type}, not a ${codec.type}`;
    throw new HubError('internal', text, { commandId });
  }
  try {
    return codec.decode(payload.value);
  } catch (error) {
    const text = `the answer to command ${commandId} is no ${codec.type}: ${reasonOf(error)}`;
    throw new HubError('internal', text, { cause: error, commandId });
  }
}

export function reasonOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
