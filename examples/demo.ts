// The whole path once, on free ports and without a trace on disk: `npm run demo`. Exits 0 if every step went well.
//
//   node examples/demo.ts [--json]
//
// With --json: one object a line, each with `step` and `ok`.
import { serve } from 'signalbox/server';
import { type Outcome, pumpIds, Story } from './story.ts';
import { Teller } from './teller.ts';

const args = process.argv.slice(2);
const unknown = args.find((arg) => arg !== '--json');
if (unknown !== undefined) {
  console.error(`demo: unknown argument ${unknown}; there is --json`);
  process.exit(2);
}
const teller = new Teller({ json: args.includes('--json') });
/** No step may take longer, in ms. */
const stepLimitMs = 30_000;

teller.line('Signalbox, once around: a hub, three simulated pumps, commands both ways, a watcher.');
teller.line();

const server = await serve({ grpc: '127.0.0.1:0', http: '127.0.0.1:0', data: ':memory:', logLevel: 'silent' });
const story = new Story(server, teller, { rampMs: 400, temperatureEveryMs: 0 });
teller.step('hub-started', true, `hub listens on ${story.grpc} (gRPC)`, { grpc: story.grpc });
const health = await fetch(`${story.http}/ready`);
teller.step('gateway-started', health.ok, `gateway listens on ${story.http}`, { http: story.http });

story.watch();
for (const id of pumpIds) await step('device-connected', () => story.connect(id));
const first = await step('in-process-command', () => story.startInProcess('pump-1', 1200));
await step('rpc-command', () => story.callByRpc('pump-2'));
const queued = await step('queued-command-delivered', () => story.queueForAbsent('pump-3'));
await step('streaming-method', () => story.tail('pump-1', 3));
const cancelled = await step('cancelled-command', () => story.cancel('pump-2'));
const ids = [first, queued, cancelled].map((outcome) => (outcome?.facts as { commandId: string })?.commandId);
await step('watched-over-sse', () => story.seen(ids));
await step('drained', () => story.end());

teller.line();
teller.line(teller.failed === 0 ? 'All of it worked.' : `${teller.failed} steps failed.`);
process.exit(teller.failed === 0 ? 0 : 1);

async function step(name: string, run: () => Promise<Outcome>): Promise<Outcome | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${stepLimitMs / 1000} s`)), stepLimitMs);
  });
  try {
    const outcome = await Promise.race([run(), late]);
    teller.step(name, outcome.ok, outcome.text, outcome.facts);
    return outcome;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    teller.step(name, false, `${name}: ${message}`, { error: message });
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}
