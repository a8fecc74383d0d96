import { randomBytes } from 'node:crypto';
import { HubError } from '../errors.ts';
import type { RedisConnection } from './connection.ts';

/**
 * The secret by which the nodes know each other: made by the first of them, and kept in Redis for the others. Whoever
 * can read it there could as well write what the nodes keep there.
 */
export async function sharedSecret(connection: RedisConnection): Promise<Buffer> {
  const key = `${connection.prefix}:{cluster}:secret`;
  await connection.call('SET', [key, randomBytes(32).toString('base64url'), 'NX']);
  const secret = await connection.call('GET', [key]);
  if (!Buffer.isBuffer(secret) || secret.length < 32)
    throw new HubError(
      'unavailable',
      `the key ${key} of Redis holds no secret of ours: delete it, or use another prefix`,
    );
  return secret;
}
