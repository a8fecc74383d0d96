import { describe, expect, test } from 'vitest';
import {
  isChannelPattern,
  mayReadChannel,
  openAuthenticator,
  type Principal,
  requireChannel,
  requireClientId,
  requireScope,
  type Scope,
} from '../../src/auth/index.ts';

const who = (scopes: Scope[], rest: Partial<Principal> = {}): Principal => ({
  subject: 'ann',
  tenant: 'default',
  scopes: new Set(scopes),
  ...rest,
});

describe('scopes', () => {
  test('what is missing is named', () => {
    expect(() => requireScope(who(['events:read']), 'commands:send')).toThrow(
      '"ann" lacks the scope commands:send (it has: events:read)',
    );
    expect(() => requireScope(who([]), 'admin')).toThrow('"ann" lacks the scope admin (it has: none)');
    try {
      requireScope(who([]), 'admin');
    } catch (error) {
      expect(error).toMatchObject({ code: 'permission-denied' });
    }
  });

  test("a device's token opens no user's API, and a user's token no device's", () => {
    const device = who(['device'], { subject: 'pump-7', clientId: 'pump-7' });
    for (const scope of ['commands:send', 'events:read', 'events:publish', 'clients:read', 'admin'] as const)
      expect(() => requireScope(device, scope)).toThrow(`"pump-7" lacks the scope ${scope} (it has: device)`);
    expect(() => requireClientId(who(['commands:send', 'admin']), 'pump-7')).toThrow('"ann" lacks the scope device');
  });

  test('an administrator may do all but be a device', () => {
    for (const scope of ['commands:send', 'events:read', 'events:publish', 'clients:read', 'admin'] as const)
      requireScope(who(['admin']), scope);
    expect(() => requireScope(who(['admin']), 'device')).toThrow('lacks the scope device');
  });

  test('a device is only its own client', () => {
    const device = who(['device'], { clientId: 'pump-7' });
    requireClientId(device, 'pump-7');
    expect(() => requireClientId(device, 'pump-8')).toThrow('"ann" is client "pump-7", not "pump-8"');
  });
});

describe('channels', () => {
  test.each([
    [['client.*'], 'client.pump-7', true],
    [['client.*'], 'client', false],
    [['client.*'], 'clients.x', false],
    [['user.ann'], 'user.ann', true],
    [['user.ann'], 'user.anna', false],
    [['user.ann', 'fleet'], 'fleet', true],
    [['*'], 'anything', true],
    [[], 'fleet', false],
    [undefined, 'fleet', true],
    [undefined, 'user.ann', true],
    [undefined, 'user.bob', false],
    [['fleet'], 'user.ann', true],
    [['user.*'], 'user.bob', true],
  ])('with the patterns %j the channel %s may be read: %s', (channels, channel, may) => {
    const principal = who(['events:read'], { channels });
    expect(mayReadChannel(principal, channel)).toBe(may);
    if (may) requireChannel(principal, channel);
    else
      expect(() => requireChannel(principal, channel)).toThrow(`"ann" may not read the channel "${channel}" (it may: `);
  });

  test('patterns without the scope are worth nothing', () => {
    expect(mayReadChannel(who(['commands:send'], { channels: ['*'] }), 'fleet')).toBe(false);
    expect(() => requireChannel(who([], { channels: ['*'] }), 'fleet')).toThrow('lacks the scope events:read');
  });

  test.each(['', 'a b', 'a*b', '**', 'ä', 'x'.repeat(161), 7, null])('%j is no pattern', (pattern) => {
    expect(isChannelPattern(pattern)).toBe(false);
  });
  test.each(['*', 'client.*', 'client.pump-7', 'fleet'])('%j is a pattern', (pattern) => {
    expect(isChannelPattern(pattern)).toBe(true);
  });
});

test('an open hub lets everybody do everything, as anonymous and as any client', async () => {
  const anonymous = await openAuthenticator().authenticate({});
  expect(anonymous).toMatchObject({ subject: 'anonymous', tenant: 'default' });
  for (const scope of ['device', 'commands:send', 'events:read', 'events:publish', 'clients:read', 'admin'] as const)
    requireScope(anonymous, scope);
  requireClientId(anonymous, 'any');
  requireChannel(anonymous, 'any');
});
