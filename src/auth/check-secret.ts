import { HubError } from '../errors.ts';

const leastBytes = 32;
const leastVariety = 10;
const placeholders =
  /change(me|it|this)|placeholder|(your|my|default|example|super|test)(jwt)?secret|secretkey|password/;

/**
 * Throws `invalid-argument`, naming where it is from but not what it is, for a secret that others can know: one of less than
 * 32 bytes, of hardly any different characters, or one that stands in examples.
 */
export function checkSecret(secret: string, from: string): void {
  const bytes = Buffer.byteLength(secret);
  if (bytes < leastBytes)
    throw new HubError('invalid-argument', `the secret ${from} holds ${bytes} bytes, not at least ${leastBytes}`);
  const letters = secret.toLowerCase().replaceAll(/[^a-z]/g, '');
  if (new Set(secret).size < leastVariety || placeholders.test(letters))
    throw new HubError(
      'invalid-argument',
      `the secret ${from} is one that anybody can guess: make one with "openssl rand -base64 32"`,
    );
}
