import { describe, expect, test } from 'vitest';
import type { Command, CommandState, CommandUpdate } from '../../src/protocol/command.ts';
import {
  commandFromProto,
  commandToProto,
  progressFromProto,
  recordToProto,
  stateFromProto,
  stateToProto,
  terminalStateFromProto,
  updateFromProto,
  updateToProto,
  whenOfflineFromProto,
} from '../../src/protocol/convert.ts';
import * as wire from '../../src/protocol/gen/signalbox/v1/command.ts';

const payload = { type: 'a.B', value: new Uint8Array([1, 2]) };
const base = { commandId: 'c1', clientId: 'pump-7', atMs: 1_700_000_000_123 };
const error = { code: 'too-hot', message: '91 degrees' };

const updates: CommandUpdate[] = [
  { ...base, state: 'queued' },
  { ...base, state: 'sent' },
  { ...base, state: 'delivered' },
  { ...base, state: 'started' },
  { ...base, state: 'progress', progress: { fraction: 0, note: 'on', item: payload } },
  { ...base, state: 'progress', progress: {} },
  { ...base, state: 'succeeded', result: payload },
  { ...base, state: 'failed', error },
  { ...base, state: 'rejected', error },
  { ...base, state: 'cancelled', error },
  { ...base, state: 'expired', error },
  { ...base, state: 'unknown', error },
];

const full: Command = {
  id: 'c1',
  tenant: 'acme',
  clientId: 'pump-7',
  payload,
  whenOffline: 'queue',
  timeoutMs: 1_000,
  waitForConnectMs: 20,
  ttlMs: 86_400_000 * 365,
  idempotent: true,
  idempotencyKey: 'k',
  orderingKey: 'o',
  coalesceKey: 'co',
  traceparent: '00-1-2-01',
};

describe('updates', () => {
  test.each(updates)('$state survives the wire unchanged', (update) => {
    const bytes = wire.CommandUpdate.encode(updateToProto(update)).finish();
    const back = updateFromProto(wire.CommandUpdate.decode(bytes));
    expect(JSON.stringify(back)).toBe(JSON.stringify(update));
  });

  test('every state of ours has exactly one on the wire', () => {
    const states = [...new Set(updates.map((update) => update.state))];
    expect(states).toHaveLength(11);
    for (const state of states) expect(stateFromProto(stateToProto(state))).toBe(state);
    expect(new Set(states.map(stateToProto)).size).toBe(states.length);
  });

  test.each([0, -1, 12, 99])('state %d from the wire is refused by name', (state) => {
    expect(() => stateFromProto(state)).toThrow(`command state ${state} is not known`);
  });

  test('an update that is missing is refused', () => {
    expect(() => updateFromProto(undefined)).toThrow('update is missing');
  });

  test('only ends are ends', () => {
    const ends: CommandState[] = ['succeeded', 'failed', 'rejected', 'cancelled', 'expired', 'unknown'];
    for (const state of ends) expect(terminalStateFromProto(stateToProto(state))).toBe(state);
    expect(() => terminalStateFromProto(stateToProto('started'))).toThrow('"started" is not terminal');
  });

  test('an error that nobody gave has a code all the same', () => {
    expect(updateFromProto(wire.CommandUpdate.create({ state: 7 }))).toMatchObject({
      state: 'failed',
      error: { code: 'unspecified', message: '' },
    });
  });

  test('an absent progress is an empty one', () => {
    expect(progressFromProto(undefined)).toEqual({});
  });
});

describe('commands', () => {
  test.each([
    ['with everything', full],
    [
      'with nothing optional',
      {
        id: 'c2',
        tenant: 'acme',
        clientId: 'pump-7',
        payload,
        whenOffline: 'fail',
        timeoutMs: 0,
        waitForConnectMs: 0,
        ttlMs: 0,
        idempotent: false,
      } satisfies Command,
    ],
  ] as const)('a command %s survives the wire, its tenant being the credential’s', (_, command) => {
    const bytes = wire.Command.encode(commandToProto(command)).finish();
    const back = commandFromProto(wire.Command.decode(bytes), 'acme');
    expect({ ...back, payload: { ...back.payload, value: [...back.payload.value] } }).toEqual({
      ...command,
      payload: { ...command.payload, value: [...command.payload.value] },
    });
  });

  test('a command without payload is refused', () => {
    expect(() => commandFromProto(wire.Command.create({ id: 'x' }), 't')).toThrow('command.payload is missing');
  });

  test('the policy that nobody chose is fail, and one that nobody knows is refused', () => {
    expect(whenOfflineFromProto(0)).toBe('fail');
    expect(() => whenOfflineFromProto(7)).toThrow('when_offline 7 is not known');
  });

  test('a record shows the type and not the payload', () => {
    expect(recordToProto({ command: full, acceptedAtMs: 5, last: updates[0]! })).toEqual({
      id: 'c1',
      clientId: 'pump-7',
      type: 'a.B',
      last: updateToProto(updates[0]!),
      acceptedAtMs: 5,
      whenOffline: wire.WhenOffline.WHEN_OFFLINE_QUEUE,
    });
  });
});
