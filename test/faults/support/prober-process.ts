// One device that is well, its caller and a browser that watches it, in a process of their own: it tells how long a command
// and an event take while others are in trouble.
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { createInterface } from 'node:readline';
import { connectDevice } from '../../../src/device/index.ts';
import { grpcTransport } from '../../../src/grpc/index.ts';
import { submit } from './callers.ts';
import { order } from './order.ts';

export interface ProberOptions {
  readonly grpc: string;
  readonly http: string;
  /** A channel that its browser watches, too. */
  readonly channel: string;
}

/** What came of one probe after the other. */
export interface Probed {
  /** How long each command took, in ms. */
  readonly commands: number[];
  /** How long each event took until the browser had it, in ms. */
  readonly events: number[];
  /** Events of the other channel that the browser has seen so far. */
  readonly others: number;
}

const { grpc, http, channel } = JSON.parse(process.argv[2]!) as ProberOptions;
const device = await connectDevice({ address: grpc, clientId: 'healthy' });
device.handle(order, (one) => one, { result: order });
const transport = grpcTransport({ address: grpc });
const silence = { write: () => undefined };

let seen = '';
let others = 0;
let sees: () => void = () => undefined;
const asked = get(`http://${http}/v1/events?channel=client.healthy&channel=${channel}`, { agent: false });
const [browser] = (await once(asked, 'response')) as [IncomingMessage];
browser.setEncoding('utf8').on('data', (chunk: string) => {
  const lines = (seen + chunk).split('\n');
  seen = lines.pop()!;
  for (const line of lines)
    if (line === 'event: beat') sees();
    else if (line === 'event: noise') others++;
    else if (line.startsWith('event: hub.')) throw new Error(`the healthy browser was told: ${line}`);
});

async function probe(times: number): Promise<Probed> {
  const commands: number[] = [];
  const events: number[] = [];
  for (let i = 0; i < times; i++) {
    const begun = performance.now();
    const state = await submit(transport, silence, { clientId: 'healthy', content: `${i}`, live: true }).ended;
    if (state !== 'succeeded') throw new Error(`a command to the healthy device ended as ${state}`);
    const between = performance.now();
    const isSeen = new Promise<void>((resolve) => {
      sees = resolve;
    });
    void device.emit('beat', { i });
    await isSeen;
    commands.push(between - begun);
    events.push(performance.now() - between);
  }
  return { commands, events, others };
}

const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
createInterface({ input: process.stdin }).on('line', async (times) => say({ probed: await probe(Number(times)) }));
// Ends with the test, if that should die.
process.stdin.once('end', () => process.exit());
say({ ready: true });
