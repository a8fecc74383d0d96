// Devices and browsers in a process of their own, behind roads on which nothing comes down to them any more when they are
// told to stop reading. Who does not read does not see either that it was closed: such a one hangs up now and then, and comes
// back for more.
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
}

/** What has come down to them so far. */
export interface CrowdCounts {
  /** Commands that ran. */
  readonly commands: number;
  /** Bytes that browsers have read. */
  readonly bytes: number;
}

const { grpc, http, names, browsers, channel } = JSON.parse(process.argv[2]!) as CrowdOptions;
const roads = { devices: await faultProxy({ target: grpc }), browsers: await faultProxy({ target: http }) };
const counts = { commands: 0, bytes: 0 };
const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

for (const clientId of names) {
  const device = await connectDevice({
    address: roads.devices.address,
    clientId,
    waitForWelcome: false,
    backoff: { minMs: 50, maxMs: 500 },
    connectTimeoutMs: 3000,
  });
  device.handle(order, () => void counts.commands++);
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
  // Who does not read has missed something, and asks for all that is kept.
  const url = `http://${roads.browsers.address}/v1/events?channel=${channel}&from=${isReading ? 'now' : 'start'}`;
  const asked = get(url, { agent: false }, (response) => {
    among = watching.add(n);
    response.on('data', (chunk: Buffer) => {
      counts.bytes += chunk.length;
    });
    response.on('error', again);
    response.on('close', again);
  });
  asked.on('error', again);
}
for (let n = 0; n < browsers; n++) browse(n);

let hangUps: NodeJS.Timeout | undefined;
function read(): void {
  isReading = true;
  clearInterval(hangUps);
  watching = new Set();
  for (const road of Object.values(roads)) road.resume();
  roads.browsers.cutAll();
}
function stall(): void {
  isReading = false;
  for (const road of Object.values(roads)) road.pause('down');
  // Each after five seconds on average, one after the other.
  hangUps = setInterval(() => {
    for (const road of Object.values(roads)) road.cutSome(0.1);
  }, 500);
}

createInterface({ input: process.stdin }).on('line', (told) => {
  if (told === 'counts') say({ counts });
  else if (told === 'watching') say({ watching: watching.size });
  else {
    if (told === 'read') read();
    else stall();
    say({ told });
  }
});
// Ends with the test, if that should die.
process.stdin.once('end', () => process.exit());
