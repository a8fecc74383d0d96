import { closeTransports, commandClient } from '../../../src/index.ts';
import { PumpServiceDefinition } from '../../../src/protocol/gen/signalbox/example/v1/pump.ts';

// A backend: commands a pump at argv[2], prints the answer, and ends by itself.
const [address = '', rpm = '0'] = process.argv.slice(2);
const pump = commandClient(PumpServiceDefinition, { clientId: 'pump-7', address });
console.log('sending');
console.log(`answer ${JSON.stringify(await pump.start({ rpm: Number(rpm) }, { timeoutMs: 60_000 }))}`);
await closeTransports();
