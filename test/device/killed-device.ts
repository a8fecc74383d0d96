import { appendFileSync } from 'node:fs';
import { connectDevice, fileJournal } from '../../src/device/index.ts';
import { echo } from './tools.ts';

// A device to be killed: writes each command that it runs into a file, and hangs where the id says so.
const [address = '', journal = '', effects = ''] = process.argv.slice(2);
const device = await connectDevice({
  address,
  clientId: 'pump-7',
  journal: fileJournal(journal),
  waitForWelcome: false,
  observe: (fact) => fact.kind === 'state-changed' && console.log(fact.state.kind),
});
device.handle(echo, async (_, { commandId }) => {
  appendFileSync(effects, `${commandId}\n`);
  if (commandId.startsWith('hang')) await new Promise(() => undefined);
});
