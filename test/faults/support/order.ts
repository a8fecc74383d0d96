import type { CommandCodec } from '../../../src/protocol/codec.ts';

export interface Order {
  readonly content: string;
  readonly orderingKey: string;
}

/** What the devices of the fault tests do. */
export const order: CommandCodec<Order> = {
  type: 'test.Order',
  encode: (value) => new TextEncoder().encode(JSON.stringify(value)),
  decode: (bytes) => JSON.parse(new TextDecoder().decode(bytes)) as Order,
};
