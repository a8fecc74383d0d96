import { Command } from 'commander';
import { printable } from '../../server/printable.ts';
import { collect, parseCount } from '../arguments.ts';
import { exitCodes } from '../exit-codes.ts';
import { GatewayClient, type GatewayOptions, withGatewayOptions } from '../gateway-client.ts';
import type { Verb } from '../run.ts';

interface Options extends GatewayOptions {
  type?: string[];
  from?: string;
  to?: string;
  text?: string;
  limit?: number;
}

interface Found {
  readonly channel: string;
  readonly type: string;
  readonly at: string;
  readonly data: unknown;
}

/** `signalbox events 'client.*' --type temperature`: stored events of the past, over the gateway. */
export const events: Verb = {
  declare: () =>
    withGatewayOptions(
      new Command('events')
        .description('Look for stored events, newest first.')
        .argument('[channel...]', "channels, or the beginning of names with * behind: 'client.*'")
        .option('--type <type>', 'only events of this type; may be repeated', collect)
        .option('--from <time>', 'from then on, as 2026-01-31T12:00:00Z')
        .option('--to <time>', 'up to then')
        .option('--text <text>', 'only those whose data has this text')
        .option('--limit <n>', 'at most so many (default: 100)', parseCount),
    ),

  examples: ['events fleet', `events 'client.*' --type temperature --from 2026-01-31T12:00:00Z --json`],

  async run([channels], options: Options, { terminal, outside, signal }) {
    const gateway = new GatewayClient(options, outside);
    let left = options.limit ?? 100;
    let after: string | undefined;
    do {
      const query = new URLSearchParams({ limit: String(Math.min(left, 1000)) });
      for (const channel of [channels ?? []].flat()) query.append('channel', channel);
      for (const type of options.type ?? []) query.append('type', type);
      for (const name of ['from', 'to', 'text'] as const) if (options[name]) query.set(name, options[name]);
      if (after !== undefined) query.set('after', after);
      const page = await gateway.call<{ events: Found[]; next?: string }>(
        'GET',
        `/v1/archive?${query}`,
        undefined,
        signal,
      );
      for (const event of page.events) {
        const line = `${event.at}  ${event.channel}  ${event.type}  ${JSON.stringify(event.data)}`;
        terminal.tell(event, printable(line));
      }
      left -= page.events.length;
      after = page.next;
    } while (after !== undefined && left > 0 && !signal.aborted);
    return exitCodes.ok;
  },
};
