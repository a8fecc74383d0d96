import { expect, onTestFinished, test } from 'vitest';
import { connectDevice } from '../../src/device/index.ts';
import { PumpServiceDefinition } from '../../src/example/index.ts';
import { serve } from '../../src/server/index.ts';
import { runHere } from './signalbox.ts';

const trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

/** A hub with one pump, which tells the trace that each start came with. */
async function start(): Promise<{ grpc: string; traces: (string | undefined)[] }> {
  const server = await serve({ grpc: '127.0.0.1:0', http: false, data: ':memory:', logLevel: 'silent' });
  onTestFinished(() => server.close());
  const grpc = server.grpc[0]!;
  const device = await connectDevice({ address: grpc, clientId: 'pump-7' });
  onTestFinished(() => device.close());
  const traces: (string | undefined)[] = [];
  device.implement(PumpServiceDefinition, {
    start({ rpm }, { traceparent }) {
      traces.push(traceparent);
      return { rpm };
    },
    stop: () => ({ ranMs: 0 }),
    configUpdate: ({ config }) => ({ config }),
    async *tailLog({ lines }) {
      for (let number = 1; number <= lines; number++) yield { number, text: 'well' };
    },
  });
  return { grpc, traces };
}

test('the end of a streaming method has no result, and says so', async () => {
  const { grpc } = await start();
  const args = ['send', 'pump-7', 'tailLog', '{"lines": 1}', '--grpc', grpc];
  const { stdout, code } = await runHere(args);
  expect(code).toBe(0);
  expect(stdout.trimEnd()).toMatch(/succeeded$/);
  const { json } = await runHere([...args, '--json']);
  expect(json().at(-1)).toMatchObject({ state: 'succeeded', result: null });
  const fleet = await runHere(['fleet', 'all', 'tailLog', '{"lines": 1}', '--grpc', grpc]);
  expect(fleet.stdout).toMatch(/^pump-7 +succeeded\n$/);
});

test('TRACEPARENT goes with a command to the device, and what is none does not', async () => {
  const { grpc, traces } = await start();
  for (const TRACEPARENT of [trace, 'nonsense', undefined])
    expect((await runHere(['send', 'pump-7', 'start', '{"rpm": 9}', '--grpc', grpc], { TRACEPARENT })).code).toBe(0);
  expect((await runHere(['fleet', 'all', 'start', '--grpc', grpc], { TRACEPARENT: trace })).code).toBe(0);
  expect(traces).toEqual([trace, undefined, undefined, trace]);
});
