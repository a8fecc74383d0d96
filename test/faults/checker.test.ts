import { expect, test } from 'vitest';
import { compare } from './support/checker.ts';
import type { CallerLine, EffectLine } from './support/ledger.ts';

// The oracle of these tests has to be able to say no: each promise broken once, in ledgers written by hand.

const submitted = (id: string, more: Partial<Extract<CallerLine, { kind: 'submitted' }>> = {}): CallerLine => ({
  kind: 'submitted',
  id,
  clientId: 'pump',
  orderingKey: 'one',
  content: id,
  idempotent: false,
  ...more,
});
const accepted = (id: string, as = id): CallerLine => ({ kind: 'accepted', id, as });
const ended = (id: string, state = 'succeeded', as = id): CallerLine => ({ kind: 'ended', id, as, state });
const refused = (id: string, code: string): CallerLine => ({ kind: 'refused', id, code, message: '' });
const ran = (id: string, more: Partial<EffectLine> = {}): EffectLine => ({
  id,
  clientId: 'pump',
  content: id,
  orderingKey: 'one',
  boot: '1',
  ...more,
});

test('what went well breaks nothing', () => {
  const callers = [
    ...[submitted('a', { key: 'k' }), accepted('a'), ended('a')],
    ...[submitted('b', { key: 'k' }), accepted('b', 'a'), ended('b', 'succeeded', 'a')],
    ...[submitted('c', { idempotent: true }), accepted('c'), ended('c')],
    ...[submitted('d'), accepted('d'), ended('d', 'unknown')],
    ...[submitted('e'), refused('e', 'unavailable'), accepted('e'), ended('e')],
    ...[submitted('f'), refused('f', 'mailbox-full')],
  ];
  const effects = [ran('a'), ran('c'), ran('c'), ran('d'), ran('e')];
  expect(compare(callers, effects)).toEqual({
    accepted: 4,
    states: { succeeded: 3, unknown: 1 },
    effects: 5,
    broken: [],
  });
});

const idempotent = { idempotent: true };
const broken: [string, CallerLine[], EffectLine[], string][] = [
  [
    'an accepted command without an end',
    [submitted('a'), accepted('a')],
    [ran('a')],
    'a was accepted and has no end (1 effects)',
  ],
  [
    'two ends',
    [submitted('a'), accepted('a'), ended('a'), ended('a', 'failed')],
    [ran('a')],
    'a ended as succeeded and as failed',
  ],
  ['two effects', [submitted('a'), accepted('a'), ended('a')], [ran('a'), ran('a')], 'a ran 2 times (succeeded)'],
  ['two effects of what nobody accepted', [submitted('a')], [ran('a'), ran('a')], 'a ran 2 times (undefined)'],
  ['a success without an effect', [submitted('a'), accepted('a'), ended('a')], [], 'a succeeded without an effect'],
  [
    'an unknown of what may be repeated',
    [submitted('a', idempotent), accepted('a'), ended('a', 'unknown')],
    [],
    'a may be repeated and is unknown',
  ],
  [
    'an effect of what has expired',
    [submitted('a'), accepted('a'), ended('a', 'expired')],
    [ran('a')],
    'a is expired and ran',
  ],
  [
    'an effect of what was refused',
    [submitted('a'), refused('a', 'client-offline')],
    [ran('a')],
    'a was refused (client-offline) and ran',
  ],
  ['an effect of nothing', [], [ran('a')], 'pump ran a, which nobody submitted'],
  [
    'an effect at another device',
    [submitted('a'), accepted('a'), ended('a')],
    [ran('a', { clientId: 'valve' })],
    'a for pump was run by valve with "a"',
  ],
  [
    'an effect of another content',
    [submitted('a'), accepted('a'), ended('a')],
    [ran('a', { content: 'b' })],
    'a for pump was run by pump with "b"',
  ],
  [
    'one key that is two commands',
    ['a', 'b'].flatMap((id) => [submitted(id, { key: 'k' }), accepted(id), ended(id)]),
    [ran('a'), ran('b')],
    'key k of pump is both a and b',
  ],
  [
    'one submission that is two commands',
    [submitted('a'), accepted('a'), accepted('a', 'b'), ended('a'), ended('b')],
    [ran('a'), ran('a')],
    'a was accepted as a and as b',
  ],
  [
    'another order',
    ['a', 'b'].flatMap((id) => [submitted(id), accepted(id), ended(id)]),
    [ran('b'), ran('a')],
    'pump/one: a, accepted as number 0, ran after number 1',
  ],
];

test.each(broken)('%s is told', (_, callers, effects, says) => {
  expect(compare(callers, effects).broken).toContain(says);
});
