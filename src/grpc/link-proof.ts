import { createHmac, timingSafeEqual } from 'node:crypto';
import { HubError } from '../errors.ts';

/** Version of the protocol between nodes. */
export const linkProtocol = 1;

/** The method by which one node asks another. */
export const linkPath = '/signalbox.v1.NodeService/Link';

const leastSecretBytes = 32;

/** Throws `invalid-argument` for a secret that can be guessed. */
export function clusterKey(secret: string | Buffer): Buffer {
  const key = typeof secret === 'string' ? Buffer.from(secret) : secret;
  if (key.length < leastSecretBytes)
    throw new HubError(
      'invalid-argument',
      `the cluster secret has ${key.length} bytes, it needs at least ${leastSecretBytes}`,
    );
  return key;
}

/** What both ends of a link have agreed on, for the proof. */
export interface LinkFacts {
  readonly challenge: Uint8Array;
  readonly nonce: Uint8Array;
  readonly instance: string;
  readonly toInstance: string;
}

/** Shows that who speaks knows the secret, without telling it; good for this one link and this side of it. */
export function linkProof(
  key: Buffer,
  side: 'asks' | 'answers',
  { challenge, nonce, instance, toInstance }: LinkFacts,
): Buffer {
  const mac = createHmac('sha256', key);
  for (const part of [`signalbox link ${linkProtocol} ${side}`, challenge, nonce, instance, toInstance]) {
    const bytes = Buffer.from(part as Uint8Array);
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    mac.update(length).update(bytes);
  }
  return mac.digest();
}

export function isSameProof(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}
