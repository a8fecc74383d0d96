import { Command } from 'commander';
import { HubError, toHubError } from '../../errors.ts';
import { Backoff } from '../../flow/backoff.ts';
import type { Event } from '../../protocol/gen/signalbox/v1/event.ts';
import { printable } from '../../server/printable.ts';
import { parseCount } from '../arguments.ts';
import { type HubOptions, openHub, withHubOptions } from '../connect.ts';
import { exitCodes } from '../exit-codes.ts';
import type { Verb } from '../run.ts';
import type { Terminal } from '../terminal.ts';
import { pause } from '../waiting.ts';

interface Options extends HubOptions {
  since?: string;
  fromStart?: boolean;
  count?: number;
}

/** `signalbox watch fleet client.pump-7`: events as they happen, over losses of the hub, until Ctrl-C. */
export const watch: Verb = {
  declare: () =>
    withHubOptions(
      new Command('watch')
        .description('Tell the events of some channels as they happen, until Ctrl-C.')
        .argument('<channel...>', 'fleet, client.<clientId>, command.<commandId>, or one of your own')
        .option('--since <cursor>', 'go on after this cursor, as --json tells it with each event')
        .option('--from-start', 'first everything that is still kept')
        .option('--count <n>', 'end after so many events', parseCount),
    ).addHelpText('after', '\nWhere events are missing, it says so: hub.gap or hub.reset stands in their place.'),

  examples: ['watch fleet', 'watch client.pump-7 --from-start --json', 'watch fleet client.pump-7 --json --since AbC1'],

  async run([channels], options: Options, { terminal, outside, signal }) {
    if (options.since !== undefined && options.fromStart)
      throw new HubError('invalid-argument', '--since and --from-start exclude each other');
    await using hub = await openHub(options, outside);
    const names = [channels].flat() as string[];
    const backoff = new Backoff({ maxMs: 10_000 });
    let cursor = options.since ?? '';
    let left = options.count ?? Number.POSITIVE_INFINITY;
    let wasOpen = false;
    while (!signal.aborted) {
      let isOpen = false;
      const onHeader = (): void => {
        isOpen = true;
        backoff.reset();
        if (wasOpen) terminal.note('the hub is back');
      };
      let why = 'it ended the stream';
      try {
        const request = { channels: names, cursor, fromStart: options.fromStart === true && cursor === '' };
        for await (const next of hub.services.events.watchEvents(request, { signal, onHeader })) {
          cursor = next.cursor || cursor;
          if (next.event === undefined) continue;
          tellEvent(terminal, next.event, cursor);
          if (--left <= 0) return exitCodes.ok;
        }
      } catch (error) {
        const { code, message } = toHubError(error);
        if (signal.aborted) break;
        // Only a hub that has answered before is waited for.
        if (code !== 'unavailable' || !(wasOpen || isOpen)) throw error;
        why = message;
      }
      if (signal.aborted) break;
      wasOpen = true;
      if (isOpen && cursor === '' && !options.fromStart)
        for (const channel of names) tellEvent(terminal, { ...lostPosition, channel }, '');
      const waitMs = Math.round(100 + backoff.next());
      terminal.note(`lost the hub: ${printable(why)}; again in ${waitMs} ms`);
      await pause(waitMs, signal);
    }
    return exitCodes.ok;
  },
};

/** Stands for what happens until the hub is back, where nothing was read yet that one could go on after. */
const lostPosition: Event = {
  channel: '',
  epoch: 0,
  seq: 0,
  type: 'hub.reset',
  atMs: 0,
  json: '{"reason":"no-position"}',
};

function tellEvent(terminal: Terminal, event: Event, cursor: string): void {
  const { channel, epoch, seq, type, atMs, json } = event;
  // A notice of missing events stands for no moment.
  const at = atMs === 0 ? null : new Date(atMs).toISOString();
  if (terminal.isJson) {
    terminal.tell({ channel, epoch, seq, type, at, data: parsed(json), cursor });
    return;
  }
  const time = terminal.paint('grey', at?.slice(11, 23) ?? '--:--:--.---');
  const name = terminal.paint(type.startsWith('hub.') ? 'yellow' : 'cyan', printable(type));
  terminal.tell(undefined, `${time}  ${printable(channel)}  ${name}  ${printable(json)}`);
}

function parsed(json: string): unknown {
  return json === '' ? null : JSON.parse(json);
}
