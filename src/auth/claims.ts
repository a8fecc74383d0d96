import type { JWTPayload } from 'jose';
import { HubError } from '../errors.ts';
import { defaultTenant } from '../events/channels.ts';
import { checkClientId, checkTenant } from '../protocol/checks.ts';
import { isChannelPattern } from './access.ts';
import { isScope, type Principal, type Scope } from './principal.ts';

const maxSubjectLength = 256;
const maxPatterns = 64;

/** The principal that verified claims describe. Throws `unauthenticated` naming the claim that cannot be read. */
export function principalOfClaims(claims: JWTPayload): Principal {
  const { sub, exp, scope = '', tenant = defaultTenant, client_id, channels } = claims as Record<string, unknown>;
  if (typeof sub !== 'string' || sub === '' || sub.length > maxSubjectLength || hasControl(sub))
    throw unreadable('sub', `1 to ${maxSubjectLength} characters`);
  if (typeof exp !== 'number') throw unreadable('exp', 'a number');
  if (typeof scope !== 'string') throw unreadable('scope', 'words separated by spaces');
  const scopes = new Set<Scope>(scope.split(' ').filter(isScope));
  return {
    subject: sub,
    tenant: named('tenant', tenant, checkTenant),
    scopes,
    // An identity provider's client_id names an application; only in a device's token it is one of ours.
    clientId: scopes.has('device') ? named('client_id', client_id ?? sub, checkClientId) : undefined,
    channels: patterns(channels),
    expiresAtMs: Math.min(exp * 1000, Number.MAX_SAFE_INTEGER),
  };
}

function patterns(channels: unknown): readonly string[] | undefined {
  if (channels === undefined) return undefined;
  const list: unknown[] =
    typeof channels === 'string' ? channels.split(' ').filter(Boolean) : Array.isArray(channels) ? channels : [null];
  if (list.length > maxPatterns || !list.every(isChannelPattern))
    throw unreadable('channels', `at most ${maxPatterns} names, with * only at the end`);
  return list;
}

function named(claim: string, value: unknown, check: (value: string) => void): string {
  if (typeof value === 'string') {
    try {
      check(value);
      return value;
    } catch (error) {
      throw new HubError('unauthenticated', `the token's ${claim} claim: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }
  throw unreadable(claim, 'a text');
}

function unreadable(claim: string, wanted: string): HubError {
  return new HubError('unauthenticated', `the token's ${claim} claim cannot be read: it has to be ${wanted}`);
}

function hasControl(text: string): boolean {
  return /[\p{Cc}\u2028\u2029]/u.test(text);
}
