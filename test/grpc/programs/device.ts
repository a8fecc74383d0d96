import { connectDevice } from '../../../src/device/index.ts';
import { PumpServiceDefinition } from '../../../src/protocol/gen/signalbox/example/v1/pump.ts';

// A pump that connects to argv[2] and does what it is told, after a line on its stdin if argv[3] is "wait".
const [address = '', how] = process.argv.slice(2);
const device = await connectDevice({ address, clientId: 'pump-7' });
device.implement(PumpServiceDefinition, {
  async start({ rpm }) {
    console.log(`running ${rpm}`);
    if (how === 'wait') await new Promise((resolve) => process.stdin.once('data', resolve));
    return { rpm: rpm + 1 };
  },
  stop: async () => ({}),
  configUpdate: async () => ({}),
  async *tailLog() {
    yield { text: 'one line' };
  },
});
console.log('connected');
