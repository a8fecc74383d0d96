import type { Client } from '../clients.ts';
import { byId, element } from './dom.ts';

/** The list of devices. One of them is selected: commands go there, and its events are shown. */
export class DeviceList {
  readonly #list = byId('devices', HTMLUListElement);
  readonly #empty = byId('no-devices', HTMLElement);
  readonly #count = byId('device-count', HTMLElement);
  readonly #ids = byId('client-ids', HTMLDataListElement);
  readonly #onSelect: (clientId: string) => void;
  readonly #rows = new Map<string, { item: HTMLLIElement; shown: string }>();
  #clients: readonly Client[] = [];
  #selected = '';

  constructor(onSelect: (clientId: string) => void) {
    this.#onSelect = onSelect;
  }

  get selected(): string {
    return this.#selected;
  }

  select(clientId: string): void {
    if (clientId === this.#selected) return;
    this.#selected = clientId;
    this.show(this.#clients);
    this.#onSelect(clientId);
  }

  /** Shows the clients, and touches only rows that changed, so that the focus stays where it is. */
  show(clients: readonly Client[]): void {
    this.#clients = [...clients].sort((a, b) => a.id.localeCompare(b.id, undefined, { numeric: true }));
    this.#empty.hidden = clients.length > 0;
    const connected = clients.filter((client) => client.connected).length;
    this.#count.textContent = clients.length === 0 ? '' : `${connected} of ${clients.length} connected`;
    for (const [id, { item }] of this.#rows)
      if (!clients.some((client) => client.id === id)) {
        item.remove();
        this.#rows.delete(id);
      }
    for (const [index, client] of this.#clients.entries()) {
      const row = this.#rows.get(client.id) ?? { item: element('li'), shown: '' };
      this.#rows.set(client.id, row);
      const content = this.#content(client);
      if (row.shown !== content.outerHTML) {
        const hadFocus = row.item.contains(document.activeElement);
        row.shown = content.outerHTML;
        row.item.replaceChildren(content);
        if (hadFocus) content.focus();
      }
      if (this.#list.children[index] !== row.item)
        this.#list.insertBefore(row.item, this.#list.children[index] ?? null);
    }
    this.#ids.replaceChildren(...this.#clients.map(({ id }) => element('option', { value: id })));
    const first = this.#clients.find((client) => client.connected) ?? this.#clients[0];
    if (this.#selected === '' && first !== undefined) this.select(first.id);
  }

  #content(client: Client): HTMLButtonElement {
    const { id, connected, labels, roundTripMs, lastSeenAt, pendingCommands, agent } = client;
    const facts = [
      ...Object.entries(labels).map(([name, value]) => element('span', { class: 'label' }, `${name}=${value}`)),
      roundTripMs === undefined || !connected ? undefined : element('span', {}, `${roundTrip(roundTripMs)} round trip`),
      lastSeenAt === undefined ? undefined : element('span', { title: lastSeenAt }, `seen ${ago(lastSeenAt)}`),
      pendingCommands === 0 ? undefined : element('span', {}, `${pendingCommands} pending`),
      agent === '' ? undefined : element('span', {}, agent),
    ];
    const row = element(
      'button',
      {
        type: 'button',
        class: 'device',
        'aria-pressed': String(id === this.#selected),
        'data-client': id,
        'data-connected': String(connected),
      },
      element('span', { class: 'dot', 'aria-hidden': 'true' }),
      element('span', { class: 'name' }, id),
      element('span', { class: 'presence' }, connected ? 'connected' : 'away'),
      element('span', { class: 'facts' }, ...facts),
    );
    row.addEventListener('click', () => this.select(id));
    return row;
  }
}

function roundTrip(ms: number): string {
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

function ago(at: string): string {
  const seconds = Math.max(0, (Date.now() - Date.parse(at)) / 1000);
  if (seconds < 45) return 'just now';
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} d ago`;
}
