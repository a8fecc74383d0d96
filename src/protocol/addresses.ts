import { HubError } from '../errors.ts';

/** One address, several in one text with commas between, or a list: `a:50051,b:50051`. */
export type Addresses = string | readonly string[];

/** The single addresses. Throws `invalid-argument` when there is none. */
export function eachAddress(addresses: Addresses): string[] {
  const each = (typeof addresses === 'string' ? addresses.split(',') : [...addresses])
    .map((address) => String(address).trim())
    .filter((address) => address !== '');
  if (each.length === 0)
    throw new HubError('invalid-argument', `address ${JSON.stringify(addresses)} is not host:port or unix:///path`);
  return each;
}
