import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { HubError } from '../errors.ts';

/** Where a server listens. */
export type Address =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** Reads `host:port`, `[::1]:port` or `unix:///path`. Throws `invalid-argument` that says what is wrong. */
export function parseAddress(text: string): Address {
  if (text.startsWith('unix:')) {
    const path = /^unix:\/\/(\/.+)$/.exec(text)?.[1];
    if (path === undefined) throw wrong(text, 'a Unix socket is written unix:///absolute/path');
    return { kind: 'unix', path };
  }
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:/\s]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  if (host === undefined || (bracketed !== undefined && isIP(bracketed) !== 6))
    throw wrong(text, 'write host:port, [ipv6]:port or unix:///path');
  const port = Number(digits);
  if (port > 65_535) throw wrong(text, 'a port is 0 to 65535');
  return { kind: 'tcp', host, port };
}

/** The address as text again. */
export function formatAddress(address: Address): string {
  if (address.kind === 'unix') return `unix://${address.path}`;
  return `${isIP(address.host) === 6 ? `[${address.host}]` : address.host}:${address.port}`;
}

/**
 * Whether only this machine can reach an address. A host name counts as local when every address that it resolves to
 * is a loopback one; one that does not resolve does not.
 */
export async function isLocal(address: Address): Promise<boolean> {
  if (address.kind === 'unix') return true;
  if (isIP(address.host) !== 0) return isLoopback(address.host);
  try {
    const found = await lookup(address.host, { all: true });
    return found.length > 0 && found.every((each) => isLoopback(each.address));
  } catch {
    // Not resolvable here: the server that listens on it will say so; it is certainly not known to be local.
    return false;
  }
}

function isLoopback(ip: string): boolean {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(ip)?.[1];
  return /^127\./.test(mapped ?? ip) || ip === '::1';
}

function wrong(text: string, why: string): HubError {
  return new HubError('invalid-argument', `${JSON.stringify(text)} is not an address: ${why}`);
}
