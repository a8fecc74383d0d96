// A hub to try things with: `npm start`. Hub and gateway on loopback with a store in .signalbox, three simulated pumps,
// commands both ways, everything printed as it happens, until Ctrl-C.
//
//   node examples/start.ts
import { once } from 'node:events';
import { createServer } from 'node:net';
import { toHubError } from 'signalbox';
import { type ServeOptions, type SignalboxServer, serve } from 'signalbox/server';
import { type Outcome, pumpIds, Story } from './story.ts';
import { Teller } from './teller.ts';

const defaults = { grpc: '127.0.0.1:50051', http: '127.0.0.1:8080' };
const teller = new Teller({ json: false });
const stopping = new AbortController();
let stoppedAt = 0;
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => {
    // Under npm one Ctrl-C comes twice, from the terminal and from npm; asked for twice, it ends at once.
    if (stopping.signal.aborted && performance.now() - stoppedAt > 500) process.exit(130);
    if (!stopping.signal.aborted) stoppedAt = performance.now();
    stopping.abort();
  });

const server = await open();
const story = new Story(server, teller, { rampMs: 800, temperatureEveryMs: 10_000 });
teller.line(teller.paint('bold', 'Signalbox is running. Ctrl-C ends it.'));
teller.line();
teller.line(`  page      ${story.http}/  (devices, commands, events)`);
teller.line(`  HTTP API  ${story.http}/docs`);
teller.line(`  gRPC      ${story.grpc}  (devices and callers)`);
teller.line();

story.watch();
for (const id of pumpIds) await tell(() => story.connect(id));
await tell(() => story.startInProcess('pump-1', 1200));
await tell(() => story.callByRpc('pump-2'));
await tell(() => story.queueForAbsent('pump-3'));
await tell(() => story.tail('pump-1', 3));
await tell(() => story.cancel('pump-2'));
if (!stopping.signal.aborted) {
  teller.line();
  teller.line(`Now it is your turn: open ${story.http}/, or in another terminal`);
  teller.line(
    `  npm run -s signalbox -- send pump-1 start '{"rpm": 1500}'${story.grpc === defaults.grpc ? '' : ` --grpc ${story.grpc}`}`,
  );
  teller.line();
}

// Something happens now and then, so that there is something to watch.
for (let turn = 0; !stopping.signal.aborted; turn++) {
  await pause(20_000);
  if (stopping.signal.aborted) break;
  const id = pumpIds[turn % pumpIds.length]!;
  await tell(async () => {
    if (turn % 2 === 0) return story.startInProcess(id, 600 + 200 * (turn % 5));
    await story.stopInProcess(id);
    return { ok: true, text: `${id} stopped` };
  });
}

teller.line();
teller.line('Draining: running commands may end, devices are told to come back later ...');
await tell(() => story.end(), true);
process.exit(0);

/** Opens the hub on its usual ports and directory; where one is taken, somewhere else, and says so. */
async function open(): Promise<SignalboxServer> {
  const options: ServeOptions = {
    grpc: await portOr(defaults.grpc, 'gRPC'),
    http: await portOr(defaults.http, 'HTTP'),
    data: '.signalbox',
    logLevel: 'error',
  };
  try {
    return await serve(options);
  } catch (error) {
    const { code, message } = toHubError(error);
    if (code !== 'unavailable') throw error;
    teller.line(`${message}.`);
    teller.line('Nothing is kept on disk this time.');
    return serve({ ...options, data: ':memory:' });
  }
}

async function portOr(address: string, what: string): Promise<string> {
  const probe = createServer();
  try {
    probe.listen(Number(address.split(':')[1]), '127.0.0.1');
    await once(probe, 'listening');
    return address;
  } catch {
    teller.line(`Port ${address.split(':')[1]} is taken: ${what} listens on a free one.`);
    return '127.0.0.1:0';
  } finally {
    probe.close();
  }
}

async function tell(run: () => Promise<Outcome>, always = false): Promise<void> {
  if (stopping.signal.aborted && !always) return;
  try {
    const { ok, text } = await run();
    teller.step('', ok, text);
  } catch (error) {
    if (!stopping.signal.aborted) teller.step('', false, toHubError(error).message);
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    stopping.signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
