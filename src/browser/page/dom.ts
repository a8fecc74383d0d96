/** An element with attributes and children. Text becomes text nodes: nothing from the network is ever read as HTML. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Readonly<Record<string, string | undefined>> = {},
  ...children: readonly (Node | string | undefined)[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
  for (const child of children) if (child !== undefined) made.append(child);
  return made;
}

/** The element with this id; the page's HTML has it. */
export function byId<Kind extends HTMLElement>(id: string, kind: new () => Kind): Kind {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new TypeError(`the page has no ${kind.name} #${id}`);
  return found;
}

/** A time of day with its exact instant to point at. */
export function timeOf(at: string): HTMLTimeElement {
  const date = new Date(at);
  const text = Number.isNaN(date.getTime()) ? at : date.toLocaleTimeString(undefined, { hour12: false });
  return element('time', { datetime: at, title: at }, text);
}

/** Data on one line, cut where nobody reads on. */
export function shortJson(value: unknown, most = 600): string {
  const text = JSON.stringify(value) ?? '';
  return text.length > most ? `${text.slice(0, most)} …` : text;
}
