// A backend in a process of its own: it commands a device over the hub's RPC, as if the device were an object here.
//
//   node examples/backend-rpc.ts [client id] [hub address]
//
// Needs a hub with that device: `npm start` in another terminal brings up pump-1, pump-2 and pump-3.
import { commandClient, HubError } from 'signalbox';
import { PumpServiceDefinition } from 'signalbox/example';

const [clientId = 'pump-1', address = process.env.SIGNALBOX_ADDRESS ?? '127.0.0.1:50051'] = process.argv.slice(2);

await using pump = commandClient(PumpServiceDefinition, { clientId, address });
try {
  // A unary method is a promise of the device's answer.
  const { rpm } = await pump.start({ rpm: 1200 }, { timeoutMs: 10_000 });
  console.log(`${clientId} runs at ${rpm} rpm`);

  // A server-streaming method is an async iterable.
  for await (const line of pump.tailLog({ lines: 3 })) console.log(`log ${line.number}: ${line.text}`);

  // The same command, step by step.
  for await (const update of pump.stop.updates({})) console.log(`stop: ${update.state}`);
} catch (error) {
  if (!(error instanceof HubError)) throw error;
  // `client-offline`, `command-rejected`, `deadline-exceeded`, `unavailable`... : docs/commands.md lists them.
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1;
}
