import { Command } from 'commander';
import type { Client } from '../../protocol/gen/signalbox/v1/client.ts';
import { printable } from '../../server/printable.ts';
import { collectPair } from '../arguments.ts';
import { type HubOptions, openHub, withHubOptions } from '../connect.ts';
import { exitCodes } from '../exit-codes.ts';
import type { Verb } from '../run.ts';
import { type Terminal, table } from '../terminal.ts';
import { untilStopped } from '../waiting.ts';

interface Options extends HubOptions {
  label?: Record<string, string>;
  connected?: boolean;
  watch?: boolean;
}

/** `signalbox clients`: who is there, and who was. */
export const clients: Verb = {
  declare: () =>
    withHubOptions(
      new Command('clients')
        .description('List the devices that the hub knows.')
        .option('--label <key=value>', 'only those with this label; may be repeated', collectPair)
        .option('--connected', 'only those with a live stream')
        .option('--watch', 'then tell every change, until Ctrl-C'),
    ),

  examples: ['clients', 'clients --connected --label site=north --json', 'clients --watch'],

  async run(_args, options: Options, { terminal, outside, signal }) {
    await using hub = await openHub(options, outside);
    const { label: labels = {}, connected: connectedOnly = false } = options;
    if (options.watch) {
      // A device that leaves is told in any case: it is a change.
      for await (const { client, caughtUp } of untilStopped(
        hub.services.clients.watchClients({ labels }, { signal }),
        signal,
      )) {
        if (client === undefined) terminal.note('no clients yet');
        else if (client.connected || !connectedOnly || !caughtUp)
          terminal.tell(clientJson(client), line(terminal, client));
      }
      return exitCodes.ok;
    }
    const { clients: found } = await hub.services.clients.listClients({ labels, connectedOnly }, { signal });
    if (terminal.isJson) for (const client of found) terminal.tell(clientJson(client));
    else if (found.length === 0) terminal.note('no clients');
    else terminal.tell(undefined, table([heads, ...found.map(cells)]));
    return exitCodes.ok;
  },
};

/** The client with `--json`: times as ISO text, and null for what is not known. */
export function clientJson(client: Client): object {
  const { connectedAtMs, lastSeenAtMs, roundTripMs = null, ...rest } = client;
  return { ...rest, connectedAt: iso(connectedAtMs), lastSeenAt: iso(lastSeenAtMs), roundTripMs };
}

const iso = (ms: number): string | null => (ms === 0 ? null : new Date(ms).toISOString());

const heads = ['CLIENT', 'STATE', 'SINCE', 'RTT', 'PENDING', 'NODE', 'LABELS'];

function cells(client: Client): string[] {
  const since = client.connected ? client.connectedAtMs : client.lastSeenAtMs;
  return [
    client.id,
    client.connected ? 'connected' : 'away',
    iso(since)?.slice(0, 19).replace('T', ' ') ?? '-',
    client.roundTripMs === undefined ? '-' : `${client.roundTripMs.toFixed(1)} ms`,
    String(client.pendingCommands),
    client.node || '-',
    labelsText(client),
  ];
}

function line(terminal: Terminal, client: Client): string {
  const time = terminal.paint('grey', new Date().toISOString().slice(11, 23));
  const state = client.connected ? terminal.paint('green', 'connected') : terminal.paint('yellow', 'away     ');
  return `${time}  ${state}  ${printable(`${client.id}  ${labelsText(client)}`)}`.trimEnd();
}

const labelsText = ({ labels }: Client): string =>
  Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(' ');
