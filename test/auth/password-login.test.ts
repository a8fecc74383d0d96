import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { jwtAuthenticator, passwordLogin, UserFile } from '../../src/auth/index.ts';
import { virtualClock } from '../../src/testing/virtual-clock.ts';

const secret = 'x'.repeat(32);
const words = { secret, issuer: 'signalbox', audience: 'signalbox' };

function directory(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-users-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function withAnn(options: { maxFailures?: number } = {}) {
  const users = new UserFile(directory());
  await users.put({
    name: 'ann',
    scopes: ['tasks:run', 'events:read'],
    channels: ['user.ann'],
    password: 'correct horse',
  });
  const clock = virtualClock();
  return {
    users,
    clock,
    login: passwordLogin({ users, clock, ...words, ...options }),
    hub: jwtAuthenticator({ ...words, clock }),
  };
}

test('a password gives a token that says who one is and what one may', async () => {
  const { login, hub } = await withAnn();
  const { token, expiresInMs, user, scopes } = await login.login('ann', 'correct horse');
  expect([user, scopes, expiresInMs]).toEqual(['ann', ['tasks:run', 'events:read'], 900_000]);
  const principal = await hub.authenticate({ bearer: token });
  expect(principal).toMatchObject({ subject: 'ann', tenant: 'default', channels: ['user.ann'] });
});

test('a wrong name and a wrong password are refused in the same words', async () => {
  const { login } = await withAnn();
  const refused = { code: 'unauthenticated', message: 'the name or the password is wrong' };
  await expect(login.login('ann', 'wrong horse')).rejects.toMatchObject(refused);
  await expect(login.login('nobody', 'correct horse')).rejects.toMatchObject(refused);
});

test('guessing stops after some tries, for that user, for a while', async () => {
  const { login, clock, users } = await withAnn({ maxFailures: 2 });
  await users.put({ name: 'bob', scopes: [], password: 'bobs password' });
  for (let i = 0; i < 2; i++)
    await expect(login.login('ann', 'guess')).rejects.toMatchObject({ code: 'unauthenticated' });
  const error = await login.login('ann', 'correct horse').catch((thrown) => thrown);
  expect(error).toMatchObject({ code: 'resource-exhausted', retryAfterMs: 600_000 });
  expect(await login.login('bob', 'bobs password')).toMatchObject({ user: 'bob' });
  await clock.advance(600_000);
  expect(await login.login('ann', 'correct horse')).toMatchObject({ user: 'ann' });
});

test('a refresh token gets the next token, and is no token itself', async () => {
  const { login, hub, clock } = await withAnn();
  const first = await login.login('ann', 'correct horse');
  await clock.advance(900_001);
  await expect(hub.authenticate({ bearer: first.token })).rejects.toThrow('expired');
  const second = await login.refresh(first.refreshToken);
  expect(await hub.authenticate({ bearer: second.token })).toMatchObject({ subject: 'ann' });
  await expect(hub.authenticate({ bearer: first.refreshToken })).rejects.toMatchObject({ code: 'unauthenticated' });
  await expect(login.refresh(first.token)).rejects.toMatchObject({ code: 'unauthenticated' });
  await clock.advance(31 * 86_400_000);
  await expect(login.refresh(second.refreshToken)).rejects.toMatchObject({ code: 'unauthenticated' });
});

test('a new password, or a removed user, ends what was there before', async () => {
  const { login, users } = await withAnn();
  const { refreshToken } = await login.login('ann', 'correct horse');
  await users.put({ name: 'ann', scopes: ['tasks:run'], password: 'another one' });
  await expect(login.refresh(refreshToken)).rejects.toThrow('has changed since');
  const again = await login.login('ann', 'another one');
  expect(users.remove('ann')).toBe(true);
  await expect(login.refresh(again.refreshToken)).rejects.toThrow('has changed since');
});

test('users are kept in a file that is for its owner alone, with no password in it, and seen by others at once', async () => {
  const folder = directory();
  const one = new UserFile(folder);
  const other = new UserFile(folder);
  expect(other.find('ann')).toBeUndefined();
  await one.put({ name: 'ann', scopes: ['admin'], password: 'correct horse' });
  const file = path.join(folder, 'users.json');
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readFileSync(file, 'utf8')).not.toContain('horse');
  expect(other.find('ann')).toMatchObject({ scopes: ['admin'], version: 1 });
  writeFileSync(file, '{"users": 5}');
  expect(() => other.find('ann')).toThrow('users.json cannot be read');
});

test.each([
  [{ name: 'a b' }, 'user name "a b"'],
  [{ password: 'short' }, 'a password has 8 to 1024 characters'],
  [{ scopes: ['root'] }, 'there is no scope "root"'],
])('a user that cannot be is refused: %j', async (changes, message) => {
  const user = { name: 'ann', scopes: [], password: 'long enough', ...changes };
  await expect(new UserFile(directory()).put(user as never)).rejects.toThrow(message);
});
