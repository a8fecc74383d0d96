// A script that embeds the hub, registers it as this process's service, and sends in process: no address anywhere.
//
//   node examples/cli-script.ts [rpm]
//
// Code that only knows the client id finds the registered hub by itself. In a process without one, the same code goes
// to the hub at SIGNALBOX_ADDRESS.
import { commandClient, defaultServiceName, isServiceRegistered, registerService, unregisterService } from 'signalbox';
import { PumpServiceDefinition } from 'signalbox/example';
import { serve } from 'signalbox/server';
import { connectPump } from './support.ts';

const rpm = Number(process.argv[2] ?? 900);

await using server = await serve({ grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'error' });
if (!isServiceRegistered()) registerService(defaultServiceName, server.hub);
try {
  await using _device = await connectPump({ address: server.grpc[0]!, clientId: 'pump-7' });
  const pump = commandClient(PumpServiceDefinition, { clientId: 'pump-7' }); // neither a hub nor an address
  console.log(`pump-7 runs at ${(await pump.start({ rpm })).rpm} rpm`);
} finally {
  unregisterService(defaultServiceName, server.hub);
}
