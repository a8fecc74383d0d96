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
        element('pre', {}, shortJson(data)),
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
