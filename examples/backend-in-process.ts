// A backend with the hub in its own process: one program, no RPC between the two.
//
//   node examples/backend-in-process.ts
//
// Devices come over gRPC all the same; here a simulated one does, so that there is something to command.
import { commandClient } from 'signalbox';
import { PumpServiceDefinition } from 'signalbox/example';
import { serve } from 'signalbox/server';
import { connectPump } from './support.ts';

await using server = await serve({ grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'error' });
await using _device = await connectPump({ address: server.grpc[0]!, clientId: 'pump-7', labels: { site: 'north' } });

// The hub is the road: the command goes straight to the device's stream.
const pump = commandClient(PumpServiceDefinition, { clientId: 'pump-7', transport: server.hub });
for await (const update of pump.start.updates({ rpm: 1200 }))
  console.log(update.state, update.state === 'progress' ? update.progress.note : '');
console.log(await pump.stop({}));

// What the hub knows of its devices is at hand, too.
for (const { id, connected, labels } of server.hub.clients.list('default')) console.log(id, connected, labels);
