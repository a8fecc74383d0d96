import { type CommandUpdate, isTerminal, type JsonPayload } from '../commands.ts';
import { byId, element, shortJson, timeOf } from './dom.ts';

const mostUpdates = 500;

/** The life of one command, as it is told. */
export class Updates {
  readonly #box = byId('updates-box', HTMLElement);
  readonly #list = byId('updates', HTMLOListElement);
  readonly #command = byId('updates-command', HTMLElement);

  begin(): void {
    this.#list.replaceChildren();
    this.#command.textContent = '';
    this.#box.hidden = false;
  }

  add(update: CommandUpdate): void {
    this.#command.textContent = update.commandId;
    this.#list.append(
      element(
        'li',
        { class: 'update', 'data-state': update.state },
        element('span', { class: 'state' }, update.state),
        element('span', { class: 'what' }, ...this.#what(update)),
        timeOf(update.at),
      ),
    );
    while (this.#list.children.length > mostUpdates) this.#list.firstElementChild?.remove();
    if (isTerminal(update.state)) this.#list.lastElementChild?.scrollIntoView({ block: 'nearest' });
  }

  problem(message: string): void {
    this.#list.append(element('li', { class: 'update' }, element('span', { class: 'problem wide' }, message)));
  }

  #what({ progress, result, error }: CommandUpdate): (Node | undefined)[] {
    if (progress !== undefined)
      return [
        progress.fraction === undefined
          ? undefined
          : element('progress', { max: '1', value: String(progress.fraction), 'aria-label': 'part done' }),
        progress.note === undefined ? undefined : element('span', {}, progress.note),
        progress.item && payload(progress.item),
      ];
    // A streaming method ends with an empty result.
    if (result !== undefined) return result.type === '' ? [] : [payload(result)];
    if (error !== undefined) return [element('span', {}, `${error.code}: ${error.message}`)];
    return [];
  }
}

function payload({ type, base64, json }: JsonPayload): HTMLElement {
  return element('pre', { title: type }, json === undefined ? base64 : shortJson(json, 4000));
}
