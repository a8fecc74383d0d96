// Commands for a device that is away: stored, and of several configurations only the latest is delivered.
//
//   node examples/queued-config.ts
import { commandClient } from 'signalbox';
import { PumpServiceDefinition } from 'signalbox/example';
import { serve } from 'signalbox/server';
import { connectPump } from './support.ts';

await using server = await serve({ grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'error' });

const pump = commandClient(PumpServiceDefinition, {
  clientId: 'pump-7',
  transport: server.hub,
  // `queue`: stored before it is accepted, kept for an hour. A newer one replaces those with its key not sent yet.
  defaults: { whenOffline: 'queue', ttlMs: 3_600_000, coalesceKey: 'config', idempotent: true },
});

// pump-7 has never been here. `send` resolves as soon as the command is stored.
for (const maxRpm of [1000, 2000, 3000]) {
  const { commandId, state } = await pump.configUpdate.send({ config: { maxRpm } }, { commandId: `config-${maxRpm}` });
  console.log(`${commandId}: ${state}`);
}

await using _device = await connectPump({ address: server.grpc[0]!, clientId: 'pump-7' });
console.log('pump-7 is connected');
for (const maxRpm of [1000, 2000, 3000])
  for await (const update of server.hub.watch('default', `config-${maxRpm}`))
    console.log(`config-${maxRpm}: ${update.state}`, 'error' in update ? update.error.code : '');
