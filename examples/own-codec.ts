// Commands in a format of your own, typed on both ends: here JSON, and no .proto file at all.
//
//   node examples/own-codec.ts
import { type CommandCodec, StreamingCommandClient } from 'signalbox';
import { connectDevice } from 'signalbox/device';
import { serve } from 'signalbox/server';

interface OpenDoor {
  readonly door: 'front' | 'back';
  readonly forSeconds: number;
}
interface DoorOpened {
  readonly openedAt: string;
}

// The type's name finds the handler on the device; the hub carries the bytes and never looks into them.
function jsonCodec<T>(type: string, check: (value: T) => boolean): CommandCodec<T> {
  return {
    type,
    encode: (value) => new TextEncoder().encode(JSON.stringify(value)),
    decode(bytes) {
      const value = JSON.parse(new TextDecoder().decode(bytes)) as T;
      if (!check(value)) throw new Error(`not a ${type}`);
      return value;
    },
  };
}
const openDoor = jsonCodec<OpenDoor>('example.OpenDoor', ({ door }) => door === 'front' || door === 'back');
const doorOpened = jsonCodec<DoorOpened>('example.DoorOpened', ({ openedAt }) => typeof openedAt === 'string');

await using server = await serve({ grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'error' });
await using device = await connectDevice({ address: server.grpc[0]!, clientId: 'house-1' });
device.handle(
  openDoor,
  ({ door, forSeconds }) => {
    console.log(`opening the ${door} door for ${forSeconds} s`);
    return { openedAt: new Date().toISOString() };
  },
  { result: doorOpened },
);

await using house = new StreamingCommandClient({
  clientId: 'house-1',
  transport: server.hub,
  codec: openDoor,
  result: doorOpened,
});
const { openedAt } = await house.request({ door: 'front', forSeconds: 5 });
console.log(`opened at ${openedAt}`);
