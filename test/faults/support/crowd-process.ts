// Devices and browsers in a process of their own, behind roads on which nothing comes down to them any more when they are
// told to stop reading. Who does not read does not see either that it was closed: when told to come and go, all hang up now and
// then, and are back for more at once.
import { get } from 'node:http';
import { createInterface } from 'node:readline';
import { connectDevice } from '../../../src/device/index.ts';
import { faultProxy } from '../../../src/testing/index.ts';
import { order } from './order.ts';

export interface CrowdOptions {
  readonly grpc: string;
  readonly http: string;
  /** Of the devices. */
  readonly names: readonly string[];
  readonly browsers: number;
  /** What the browsers watch. */
  readonly channel: string;
  /** Browsers that do not read ask for all that is kept when they come back. */
  readonly replays: boolean;
}

const { grpc, http, names, browsers, channel, replays } = JSON.parse(process.argv[2]!) as CrowdOptions;
const roads = { devices: await faultProxy({ target: grpc }), browsers: await faultProxy({ target: http }) };
const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

for (const clientId of names) {
  const device = await connectDevice({
    address: roads.devices.address,
    clientId,
    waitForWelcome: false,
    backoff: { minMs: 50, maxMs: 500 },
    connectTimeoutMs: 3000,
  });
  device.handle(order, () => undefined);
}

let isReading = true;
/** Browsers whose stream has begun since they were last told to read. */
let watching = new Set<number>();
function browse(n: number): void {
  let isOver = false;
  let among: Set<number> | undefined;
  const again = (): void => {
    if (isOver) return;
    isOver = true;
    among?.delete(n);
    setTimeout(browse, 200, n);
  };
  const from = replays && !isReading ? 'start' : 'now';
  const url = `http://${roads.browsers.address}/v1/events?channel=${channel}&from=${from}`;
  const asked = get(url, { agent: false }, (response) => {
    among = watching.add(n);
    response.resume();
    response.on('error', again);
    response.on('close', again);
  });
  asked.on('error', again);
}
for (let n = 0; n < browsers; n++) browse(n);

let hangUps: NodeJS.Timeout | undefined;
const verbs: Record<string, () => void> = {
  read() {
    isReading = true;
    clearInterval(hangUps);
    watching = new Set();
    for (const road of Object.values(roads)) road.resume();
    roads.browsers.cutAll();
  },
  stall() {
    isReading = false;
    for (const road of Object.values(roads)) road.pause('down');
  },
  /** Each after five seconds on average, one after the other. */
  'come and go'() {
    clearInterval(hangUps);
    hangUps = setInterval(() => {
      for (const road of Object.values(roads)) road.cutSome(0.1);
    }, 500);
  },
};

createInterface({ input: process.stdin }).on('line', (told) => {
  if (told === 'watching') say({ watching: watching.size });
  else {
    verbs[told]?.();
    say({ told });
  }
});
// Ends with the test, if that should die.
process.stdin.once('end', () => process.exit());
