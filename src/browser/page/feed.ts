import type { CommandUpdate } from '../commands.ts';
import type { HubEvent, HubGap, HubReset } from '../watch-types.ts';
import { byId, element, shortJson, timeOf } from './dom.ts';

const mostEvents = 200;

/** What happens, newest first. */
export class Feed {
  readonly #list = byId('feed', HTMLOListElement);
  readonly #empty = byId('no-events', HTMLElement);

  constructor() {
    byId('feed-clear', HTMLButtonElement).addEventListener('click', () => {
      this.#list.replaceChildren();
      this.#empty.hidden = false;
    });
  }

  event({ channel, epoch, seq, type, at, data }: HubEvent): void {
    this.#add(
      element(
        'li',
        { class: 'event new', 'data-kind': 'event', 'data-channel': channel, 'data-seq': `${epoch}.${seq}` },
        timeOf(at),
        element('span', { class: 'type' }, type),
        element('span', { class: 'channel' }, channel),
        element('pre', {}, type.startsWith('command.') ? commandWords(data) : shortJson(data)),
      ),
    );
  }

  gap({ channel, from, to }: HubGap): void {
    this.#note('gap', `events ${from} to ${to} of ${channel} were not kept`);
  }

  reset({ channel, reason }: HubReset): void {
    this.#note('gap', `${channel ?? 'every channel'} begins anew: ${reason}`);
  }

  #note(kind: string, text: string): void {
    const now = new Date().toISOString();
    this.#add(
      element('li', { class: 'event', 'data-kind': kind }, timeOf(now), element('span', { class: 'wide' }, text)),
    );
  }

  #add(item: HTMLLIElement): void {
    this.#empty.hidden = true;
    this.#list.prepend(item);
    while (this.#list.children.length > mostEvents) this.#list.lastElementChild?.remove();
  }
}

/** What an event of a command says beyond its type: which command, and what came with it. */
function commandWords(data: unknown): string {
  const { commandId = '', type = '', progress, result, error } = data as Partial<CommandUpdate> & { type?: string };
  const payload = result ?? progress?.item;
  const words = [
    type.split(/[./]/).at(-1),
    commandId.slice(0, 8),
    progress?.fraction === undefined ? undefined : `${Math.round(progress.fraction * 100)} %`,
    progress?.note,
    payload?.json === undefined ? undefined : shortJson(payload.json),
    error && `${error.code}: ${error.message}`,
  ];
  return words.filter((word) => word !== undefined && word !== '').join('  ');
}
