// Devices in a process of their own, to be killed. Each command is written into the ledger before it is answered.
import { rmSync } from 'node:fs';
import path from 'node:path';
import { connectDevice, fileJournal } from '../../../src/device/index.ts';
import { type EffectLine, Ledger } from './ledger.ts';
import { order } from './order.ts';

export interface DeviceProcessOptions {
  readonly address: string;
  readonly names: readonly string[];
  /** Directory of the journals; without it they are in memory. */
  readonly journals?: string | undefined;
  readonly losesJournal?: boolean | undefined;
  readonly effects: string;
  /** A command takes up to this long, in ms. */
  readonly workMs?: number | undefined;
  readonly maxBackoffMs?: number | undefined;
}

const options = JSON.parse(process.argv[2]!) as DeviceProcessOptions;
const { address, names, journals, losesJournal, workMs = 0, maxBackoffMs = 500 } = options;
const effects = new Ledger<EffectLine>(options.effects);
const boot = String(process.pid);

let connected = 0;
for (const clientId of names) {
  const home = journals === undefined ? undefined : path.join(journals, clientId);
  if (home !== undefined && losesJournal) rmSync(home, { recursive: true, force: true });
  const device = await connectDevice({
    address,
    clientId,
    // The process is killed, not the machine: what was written is there without an fsync.
    ...(home === undefined ? {} : { journal: fileJournal(home, { fsync: false }) }),
    waitForWelcome: false,
    backoff: { minMs: 50, maxMs: maxBackoffMs },
    connectTimeoutMs: 3000,
    observe: (fact) => {
      if (fact.kind === 'handler-failed' || fact.kind === 'journal-failed')
        process.stderr.write(`${clientId}: ${String(fact.error)}\n`);
    },
  });
  device.handle(
    order,
    async ({ content, orderingKey }, { commandId }) => {
      if (workMs > 0) await new Promise((resolve) => setTimeout(resolve, Math.random() * workMs));
      effects.write({ id: commandId, clientId, content, orderingKey, boot });
      return { content, orderingKey };
    },
    { result: order },
  );
  let isConnected = false;
  const note = (state: string): void => {
    if ((state === 'connected') === isConnected) return;
    isConnected = state === 'connected';
    connected += isConnected ? 1 : -1;
    if (connected === names.length || connected === 0) process.stdout.write(`${JSON.stringify({ connected })}\n`);
  };
  device.onStateChange(({ kind }) => note(kind));
  note(device.state.kind);
}
// Ends with the test, if that should die.
process.stdin.resume().once('end', () => process.exit());
