// The program of the README: a hub, a device and a caller in one file.
import { commandClient } from 'signalbox';
import { connectDevice } from 'signalbox/device';
import { PumpServiceDefinition } from 'signalbox/example'; // yours: what ts-proto makes of your .proto
import { serve } from 'signalbox/server';

// The hub. Devices and callers connect at `grpc`, browsers and scripts at `http`.
await using server = await serve({ grpc: '127.0.0.1:0', http: '127.0.0.1:0', data: ':memory:', logLevel: 'error' });

// A device: usually a program of its own, far away.
await using device = await connectDevice({ address: server.grpc[0]!, clientId: 'pump-7' });
device.implement(PumpServiceDefinition, {
  start({ rpm }, { progress }) {
    progress({ fraction: 0.5, note: 'spinning up' });
    return { rpm };
  },
  stop: () => ({ ranMs: 0 }),
  configUpdate: ({ config }) => ({ config }),
  async *tailLog({ lines }) {
    for (let number = 1; number <= lines; number++) yield { number, text: `line ${number}: all is well` };
  },
});

// A caller: the device is an object. With `address` in the place of `transport` it may live in any process.
await using pump = commandClient(PumpServiceDefinition, { clientId: 'pump-7', transport: server.hub });
const { rpm } = await pump.start({ rpm: 1200 });
console.log(`pump-7 runs at ${rpm} rpm`);
for await (const { text } of pump.tailLog({ lines: 2 })) console.log(text);
