// Many devices at once, chosen by labels: batch start, partial config update, batch stop, each outcome as it comes.
//
//   node examples/fleet.ts
import { type FleetSummary, fleet } from 'signalbox';
import { PumpServiceDefinition } from 'signalbox/example';
import { serve } from 'signalbox/server';
import { connectPump } from './support.ts';

await using server = await serve({ grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'error' });
await using _devices = new AsyncDisposableStack();
for (let number = 1; number <= 12; number++) {
  const labels = { site: number <= 8 ? 'north' : 'south' };
  _devices.use(await connectPump({ address: server.grpc[0]!, clientId: `pump-${number}`, labels }));
}

await using north = fleet(
  { labels: { site: 'north' }, exclude: ['pump-3'] },
  {
    transport: server.hub, // or `address`, from another process
    concurrency: 4, // commands on their way at once
    ratePerSecond: 100, // begun in a second
    abortAfterFailures: 2, // begin no more once this many have not succeeded
  },
);
const pumps = north.client(PumpServiceDefinition);

for await (const told of pumps.start({ rpm: 1200 }))
  console.log('start', told.clientId, told.outcome, told.outcome === 'succeeded' ? told.result.rpm : '');

// A partial update: what is not set stays as it is on each device. Encoded once for all.
console.log('config', shown(await pumps.configUpdate({ config: { maxRpm: 1500 } }).summary()));

// 2000 rpm is refused now. After two refusals the rest is left alone.
console.log('start', shown(await pumps.start({ rpm: 2000 }, { timeoutMs: 5000 }).summary()));

console.log('stop', shown(await pumps.stop({}).summary()));

/** The outcomes that there were. */
function shown(summary: FleetSummary): object {
  return Object.fromEntries(Object.entries(summary).filter(([, count]) => count > 0));
}
