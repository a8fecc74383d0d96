import { HubError } from '../errors.ts';
import type { Principal, Scope } from './principal.ts';

/** Whether the principal has the scope. `admin` stands for all of them but `device`: an administrator is no device. */
export function hasScope(principal: Principal, scope: Scope): boolean {
  return principal.scopes.has(scope) || (scope !== 'device' && principal.scopes.has('admin'));
}

/** Throws `permission-denied` naming the scope that is missing. */
export function requireScope(principal: Principal, scope: Scope): void {
  if (hasScope(principal, scope)) return;
  const has = [...principal.scopes].join(' ') || 'none';
  throw new HubError('permission-denied', `"${principal.subject}" lacks the scope ${scope} (it has: ${has})`);
}

/** Throws `permission-denied` unless the principal is a device that may use this client id. */
export function requireClientId(principal: Principal, clientId: string): void {
  requireScope(principal, 'device');
  if (principal.clientId === undefined || principal.clientId === clientId) return;
  const { subject } = principal;
  throw new HubError('permission-denied', `"${subject}" is client "${principal.clientId}", not "${clientId}"`);
}

/**
 * Whether the principal may read a channel: scope `events:read`, and one of its patterns if it has any. The channel
 * `user.<id>` is for that user, and for others only where a pattern of theirs names it.
 */
export function mayReadChannel(principal: Principal, channel: string): boolean {
  if (!hasScope(principal, 'events:read')) return false;
  if (principal.scopes.has('admin') || channel === `user.${principal.subject}`) return true;
  if (principal.channels === undefined) return !channel.startsWith('user.');
  return principal.channels.some((pattern) => matchesChannel(pattern, channel));
}

/** Throws `permission-denied` naming the scope or the channel that is missing. */
export function requireChannel(principal: Principal, channel: string): void {
  requireScope(principal, 'events:read');
  if (mayReadChannel(principal, channel)) return;
  const may = principal.channels?.join(' ') || 'none';
  throw new HubError(
    'permission-denied',
    `"${principal.subject}" may not read the channel "${channel}" (it may: ${may})`,
  );
}

/** `client.*` matches every name that begins with `client.`; without a star only the name itself matches. */
export function matchesChannel(pattern: string, channel: string): boolean {
  return pattern.endsWith('*') ? channel.startsWith(pattern.slice(0, -1)) : pattern === channel;
}

/** Whether it can be a pattern: 1 to 160 visible characters with no star but at the end. */
export function isChannelPattern(pattern: unknown): pattern is string {
  return typeof pattern === 'string' && /^(?=.{1,160}$)[\x21-\x29\x2b-\x7e]*\*?$/.test(pattern);
}
