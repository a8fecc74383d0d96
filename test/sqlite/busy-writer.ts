// A process that writes to a store as fast as it can, and says on stdout what was acknowledged: one word and number a
// line, written before anything else happens. It is made to be killed, or to run into a disk that fails.
import { writeSync } from 'node:fs';
import { openSqlite } from '../../src/sqlite/index.ts';
import { addOptions, queuedCommand, succeeded } from '../contracts/command-store.ts';
import { newEvent } from '../contracts/event-log.ts';

const [directory, first] = process.argv.slice(2);
const { commands, log } = await openSqlite({
  directory: directory!,
  observe: (fact) => say(`fact ${fact.kind} ${'reason' in fact ? fact.reason : ''}`),
});
say(`epoch ${log.epoch}`);
await Promise.all([writeCommands(0), writeCommands(1), writeEvents()]);
process.exit(0);

function say(line: string): void {
  writeSync(1, `${line}\n`);
}

async function writeCommands(lane: number): Promise<void> {
  try {
    for (let n = Number(first) + lane; ; n += 2) {
      const payload = { type: 'example.Start', value: new Uint8Array(300) };
      const command = queuedCommand({ id: `c-${n}`, clientId: `pump-${lane}`, payload });
      const outcome = await commands.add(command, addOptions({ maxCommands: 1e6, maxBytes: 1e9 }));
      if (outcome.kind !== 'stored') throw new Error(outcome.kind);
      say(`added ${n}`);
      if (n % 3 !== 0) continue;
      await commands.finish(succeeded(command));
      say(`finished ${n}`);
    }
  } catch (error) {
    say(`refused ${error}`);
  }
}

async function writeEvents(): Promise<void> {
  try {
    for (let n = Number(first); ; n++) {
      if (n % 4 === 0) log.append('t/a', newEvent(n));
      else {
        await log.append('t/a', newEvent(n, { durable: true, producer: { id: 'boot', seq: n } }));
        say(`event ${n}`);
      }
    }
  } catch (error) {
    say(`refused ${error}`);
  }
}
