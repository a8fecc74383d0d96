// A device: it connects, implements the methods of a gRPC service, tells events, and comes back by itself.
//
//   node examples/device.ts [client id] [hub address]
//
// Needs a hub: `npm start` in another terminal brings one up. Ctrl-C ends it.
import { CommandRejected, connectDevice, fileJournal } from 'signalbox/device';
import { PumpServiceDefinition } from 'signalbox/example';

const [clientId = 'pump-7', address = process.env.SIGNALBOX_ADDRESS ?? '127.0.0.1:50051'] = process.argv.slice(2);

// With a journal in a file no command runs twice, not even over a crash of this program.
const journal = fileJournal(`.signalbox/journals/${clientId}`);
const device = await connectDevice({
  address,
  clientId,
  journal,
  labels: { site: 'north', model: 'P2' },
  observe: (fact) => {
    if (fact.kind === 'stream-ended') console.log(`stream ended: ${fact.reason}`);
    if (fact.kind === 'command-ended') console.log(`${fact.type} ${fact.state}`);
  },
});
console.log(`${clientId} is connected to ${address}`);

let rpm = 0;
let displayName = clientId;

device.implement(PumpServiceDefinition, {
  async start(request, { progress, signal }) {
    // Refused before anything is done: the caller is told `command-rejected`.
    if (request.rpm > 3000) throw new CommandRejected('rpm-out-of-range', `rpm ${request.rpm} is more than 3000`);
    for (const fraction of [0.25, 0.5, 0.75]) {
      signal.throwIfAborted(); // cancelled, or out of time
      progress({ fraction, note: `${Math.round(request.rpm * fraction)} rpm` });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    rpm = request.rpm;
    device.emit('pump.state', { running: true, rpm });
    return { rpm };
  },
  stop() {
    rpm = 0;
    device.emit('pump.state', { running: false, rpm });
    return { ranMs: 0 };
  },
  configUpdate({ config }) {
    displayName = config?.displayName ?? displayName;
    return { config: { ...config, displayName } };
  },
  async *tailLog({ lines }) {
    for (let number = 1; number <= lines; number++) yield { number, text: `${displayName}: ${rpm} rpm` };
  },
});

for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.once(name, async () => {
    await device.close(); // running commands may end first
    await journal.close();
  });
const end = await device.closed;
if (end.kind === 'refused') throw end.error;
console.log(`${clientId} has left`);
