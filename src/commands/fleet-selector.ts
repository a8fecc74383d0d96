import { HubError } from '../errors.ts';
import { checkClientId, checkLabels } from '../protocol/checks.ts';
import type { ClientLister } from './client-lister.ts';

/** Which clients are meant. `exclude` takes some of them out again. */
export type FleetSelector = { readonly exclude?: readonly string[] | undefined } & (
  | { readonly ids: readonly string[] }
  /** Clients with all of these labels. */
  | { readonly labels: Readonly<Record<string, string>> }
  | { readonly all: true }
);

/** Throws `invalid-argument` naming what is wrong. An empty label selector is refused: `all` says it out loud. */
export function checkSelector(selector: FleetSelector): void {
  const kinds = ['ids', 'labels', 'all'].filter((kind) => kind in selector);
  if (kinds.length !== 1)
    throw new HubError(
      'invalid-argument',
      `a fleet is chosen by ids, by labels or by all, not by ${kinds.join(' and ') || 'nothing'}`,
    );
  for (const id of selector.exclude ?? []) checkClientId(id);
  if ('ids' in selector) for (const id of selector.ids) checkClientId(id);
  else if ('labels' in selector) {
    checkLabels(selector.labels);
    if (Object.keys(selector.labels).length === 0)
      throw new HubError('invalid-argument', 'a fleet by labels needs at least one: { all: true } means everybody');
  } else if (selector.all !== true)
    throw new HubError('invalid-argument', `all is ${String(selector.all)}: it has to be true`);
}

/** The ids that are meant now, each once, in the order given or sorted. */
export async function select(
  selector: FleetSelector,
  { tenant, connectedOnly, lister }: { tenant: string; connectedOnly: boolean; lister: () => ClientLister },
): Promise<string[]> {
  const ids =
    'ids' in selector
      ? selector.ids
      : [
          ...(await lister().listClients({
            tenant,
            labels: 'labels' in selector ? selector.labels : undefined,
            connectedOnly,
          })),
        ].sort();
  const chosen = new Set(ids);
  for (const id of selector.exclude ?? []) chosen.delete(id);
  return [...chosen];
}
