import { Command } from 'commander';
import type { DeviceState } from '../../device/device-state.ts';
import { PumpServiceDefinition, simulatedPump } from '../../example/index.ts';
import { printable } from '../../server/printable.ts';
import { collectPair } from '../arguments.ts';
import { type HubOptions, hubAccess, withHubOptions } from '../connect.ts';
import { connectionReason } from '../connection-reason.ts';
import { exitCodes } from '../exit-codes.ts';
import type { Verb } from '../run.ts';
import { untilAborted } from '../waiting.ts';

interface Options extends HubOptions {
  label?: Record<string, string>;
  journal?: string;
}

/** `signalbox device pump-7`: a simulated pump, until Ctrl-C. */
export const device: Verb = {
  declare: () =>
    withHubOptions(
      new Command('device')
        .description('Be a simulated device: a pump that implements signalbox.example.v1.PumpService, until Ctrl-C.')
        .argument('<clientId>', 'the id by which callers know it')
        .option('--label <key=value>', 'a label to select it by; may be repeated', collectPair)
        .option('--journal <dir>', 'keep its journal there, so that no command runs twice over restarts'),
    ),

  examples: ['device pump-7', 'device pump-7 --grpc hub:50051 --label site=north --journal ./pump-7'],

  async run([clientId], options: Options, { terminal, outside, signal }) {
    const { connectDevice, fileJournal } = await import('../../device/index.ts');
    const { address, token, tls } = hubAccess(options, outside);
    const journal = options.journal === undefined ? undefined : await fileJournal(options.journal);
    try {
      const pumped = await connectDevice({
        address,
        clientId: clientId as string,
        token,
        tls,
        journal,
        labels: options.label,
        agent: 'signalbox-cli',
        waitForWelcome: false,
        observe: (fact) => {
          if (fact.kind === 'state-changed') tellState(fact.state);
          if (fact.kind === 'command-ended') {
            const { commandId, type, state, code } = fact;
            const line = `${terminal.paint('cyan', state.padEnd(9))}  ${printable(type)}  ${commandId} ${code ?? ''}`;
            terminal.tell({ event: 'command', commandId, type, state, code }, line.trimEnd());
          }
        },
      });
      const pump = simulatedPump({ emit: (type, data) => pumped.emit(type, data) });
      pumped.implement(PumpServiceDefinition, pump.service);
      try {
        const end = await Promise.race([pumped.closed, untilAborted(signal)]);
        if (end?.kind === 'refused') throw end.error;
        terminal.note('leaving: running commands may end first; Ctrl-C again to stop now');
      } finally {
        pump.close();
        await pumped.close();
      }
    } finally {
      await journal?.close();
    }
    return exitCodes.ok;

    function tellState(state: DeviceState): void {
      switch (state.kind) {
        case 'connected':
          terminal.tell(
            {
              event: 'connected',
              clientId: state.clientId,
              epoch: state.epoch,
              resumed: state.resumed,
              node: state.node,
            },
            `${terminal.paint('green', 'connected')} as ${printable(state.clientId)} to ${address} (${printable(state.node)})`,
          );
          return;
        case 'waiting': {
          const inMs = Math.round(state.retryInMs);
          const reason = connectionReason(state.reason);
          const line = `${terminal.paint('yellow', 'waiting  ')} ${printable(reason)}; again in ${inMs} ms`;
          terminal.tell({ event: 'waiting', reason, retryInMs: inMs }, line);
          return;
        }
        case 'connecting':
          terminal.tell({ event: 'connecting', attempt: state.attempt });
          return;
        case 'closed':
          terminal.tell({ event: 'closed' }, 'closed');
          return;
        default:
          state satisfies never;
      }
    }
  },
};
