import type { CallerLine, EffectLine } from './ledger.ts';

export interface Verdict {
  readonly accepted: number;
  readonly states: Readonly<Record<string, number>>;
  readonly effects: number;
  /** What broke a promise, in words. */
  readonly broken: readonly string[];
}

/** Refusals that say that a command was not sent and never will be. */
const certain = new Set(['client-offline', 'mailbox-full', 'idempotency-conflict', 'invalid-argument']);

/**
 * Compares what callers were told with what devices did. It never asks the hub.
 * - an accepted command has exactly one end, whoever is told;
 * - what may not be repeated has at most one effect, accepted or not; `succeeded` of it means exactly one;
 * - `unknown` is only for what may not be repeated; what is `expired` has not run;
 * - what was refused for certain, and never accepted, has not run;
 * - per client and ordering key, first effects are in the order in which the commands were accepted;
 * - one idempotency key is one command.
 */
export function compare(callers: readonly CallerLine[], effects: readonly EffectLine[]): Verdict {
  const broken: string[] = [];
  const submitted = new Map<string, Extract<CallerLine, { kind: 'submitted' }>>();
  const acceptedAs = new Map<string, string>();
  const ends = new Map<string, string>();
  /** Command ids in the order of their acceptance, by line of order. */
  const lines = new Map<string, string[]>();
  const byKey = new Map<string, string>();
  const refusedAs = new Map<string, string>();
  for (const line of callers) {
    switch (line.kind) {
      case 'submitted':
        submitted.set(line.id, line);
        break;
      case 'accepted': {
        const { clientId, orderingKey, key } = submitted.get(line.id)!;
        if (acceptedAs.has(line.id) && acceptedAs.get(line.id) !== line.as)
          broken.push(`${line.id} was accepted as ${acceptedAs.get(line.id)} and as ${line.as}`);
        acceptedAs.set(line.id, line.as);
        if (key !== undefined) {
          const known = byKey.get(`${clientId}/${key}`) ?? line.as;
          if (known !== line.as) broken.push(`key ${key} of ${clientId} is both ${known} and ${line.as}`);
          byKey.set(`${clientId}/${key}`, line.as);
        }
        const order = lines.get(`${clientId}/${orderingKey}`) ?? [];
        if (!order.includes(line.as)) order.push(line.as);
        lines.set(`${clientId}/${orderingKey}`, order);
        break;
      }
      case 'ended': {
        const known = ends.get(line.as);
        if (known !== undefined && known !== line.state)
          broken.push(`${line.as} ended as ${known} and as ${line.state}`);
        ends.set(line.as, line.state);
        break;
      }
      case 'refused':
        refusedAs.set(line.id, line.code);
        break;
      default:
        line satisfies never;
    }
  }
  const counts = new Map<string, number>();
  const first = new Map<string, EffectLine>();
  for (const effect of effects) {
    counts.set(effect.id, (counts.get(effect.id) ?? 0) + 1);
    if (!first.has(effect.id)) first.set(effect.id, effect);
    const order = submitted.get(effect.id);
    if (!order) broken.push(`${effect.clientId} ran ${effect.id}, which nobody submitted`);
    else if (order.clientId !== effect.clientId || order.content !== effect.content)
      broken.push(`${effect.id} for ${order.clientId} was run by ${effect.clientId} with "${effect.content}"`);
  }
  // Of live commands, too, which nobody accepts for longer than their hub lives.
  for (const [id, times] of counts)
    if (times > 1 && submitted.get(id)?.idempotent === false) broken.push(`${id} ran ${times} times (${ends.get(id)})`);
  const accepted = new Set(acceptedAs.values());
  for (const [id, code] of refusedAs)
    if (certain.has(code) && !acceptedAs.has(id) && !ends.has(id) && counts.has(id))
      broken.push(`${id} was refused (${code}) and ran`);
  for (const as of accepted) {
    const state = ends.get(as);
    const times = counts.get(as) ?? 0;
    const isIdempotent = submitted.get(as)?.idempotent ?? false;
    if (state === undefined) broken.push(`${as} was accepted and has no end (${times} effects)`);
    if (state === 'succeeded' && times === 0) broken.push(`${as} succeeded without an effect`);
    if (state === 'unknown' && isIdempotent) broken.push(`${as} may be repeated and is unknown`);
    if (state === 'expired' && !isIdempotent && times > 0) broken.push(`${as} is expired and ran`);
  }
  for (const [line, order] of lines) {
    const position = new Map(order.map((id, index) => [id, index]));
    let highest = -1;
    for (const effect of first.values()) {
      if (`${effect.clientId}/${effect.orderingKey}` !== line) continue;
      const at = position.get(effect.id);
      if (at === undefined) continue;
      if (at < highest) broken.push(`${line}: ${effect.id}, accepted as number ${at}, ran after number ${highest}`);
      highest = Math.max(highest, at);
    }
  }
  const states: Record<string, number> = {};
  for (const state of ends.values()) states[state] = (states[state] ?? 0) + 1;
  return { accepted: accepted.size, states, effects: effects.length, broken };
}
