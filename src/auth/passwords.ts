import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto';
import { HubError } from '../errors.ts';

// 64 MiB and some 150 ms: what guessing costs for each try.
const cost = { N: 2 ** 16, r: 8, p: 1 };
const minLength = 8;
const maxLength = 1024;

/** `scrypt$N$r$p$salt$hash`. Throws `invalid-argument` for a password of less than 8 or more than 1024 characters. */
export async function hashPassword(password: string): Promise<string> {
  if (password.length < minLength || password.length > maxLength)
    throw new HubError('invalid-argument', `a password has ${minLength} to ${maxLength} characters`);
  const salt = randomBytes(16);
  const hash = await derive(password, salt, cost);
  return ['scrypt', cost.N, cost.r, cost.p, salt.toString('base64'), hash.toString('base64')].join('$');
}

/** Whether the password is the one that was hashed. Takes as long whether it is or not. */
export async function isPassword(password: string, hashed: string): Promise<boolean> {
  const [kind, n, r, p, salt = '', hash = ''] = hashed.split('$');
  const options = { N: Number(n), r: Number(r), p: Number(p) };
  // What stands in the file decides how much work is done: not more than we would do ourselves.
  if (kind !== 'scrypt' || !(options.N <= cost.N) || !(options.r <= 32) || !(options.p <= 16)) return false;
  const given = await derive(password.slice(0, maxLength), Buffer.from(salt, 'base64'), options);
  const known = Buffer.from(hash, 'base64');
  return given.length === known.length && timingSafeEqual(given, known);
}

function derive(password: string, salt: Buffer, { N, r, p }: typeof cost): Promise<Buffer> {
  return new Promise((resolve, reject) =>
    scrypt(password.normalize('NFKC'), salt, 32, { N, r, p, maxmem: 256 * 2 ** 20 }, (error, key) =>
      error ? reject(error) : resolve(key),
    ),
  );
}
