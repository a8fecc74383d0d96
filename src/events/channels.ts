import { HubError } from '../errors.ts';

/**
 * Channels of the event log are named `tenant/name`, so that tenants never meet. People see the name alone:
 * `client.<id>` what happens at one client, `command.<id>` the updates of one command, `fleet` who comes and goes.
 */
export type ChannelKey = string;

export const defaultTenant = 'default';

export const fleetChannel = 'fleet';
export const clientChannel = (clientId: string): string => `client.${clientId}`;
export const commandChannel = (commandId: string): string => `command.${commandId}`;

export const channelKey = (tenant: string, name: string): ChannelKey => `${tenant}/${name}`;
export const channelName = (key: ChannelKey): string => key.slice(key.indexOf('/') + 1);

/** First words of event types and channel names that only the hub may write. */
export const reservedPrefixes = ['hub.', 'client.', 'command.', 'task.'] as const;

/** Throws `invalid-argument` unless `name` can name a channel: 1 to 160 visible ASCII characters without `/ ? # *`. */
export function checkChannelName(name: string): void {
  if (!/^[\x21-\x7e]{1,160}$/.test(name) || /[/?#*&,"\\]/.test(name))
    throw new HubError('invalid-argument', `${JSON.stringify(name.slice(0, 200))} is not a channel name`);
}

/** Throws `invalid-argument` unless `type` can be an event's type: 1 to 128 of `A-Z a-z 0-9 . _ -`. */
export function checkEventType(type: string): void {
  if (!/^[A-Za-z0-9._-]{1,128}$/.test(type))
    throw new HubError('invalid-argument', `${JSON.stringify(type.slice(0, 200))} is not an event type`);
}

/** As `checkEventType`, for types that a device or caller chose: those of the hub itself are refused. */
export function checkForeignEventType(type: string): void {
  checkEventType(type);
  if (reservedPrefixes.some((prefix) => type.startsWith(prefix)))
    throw new HubError(
      'invalid-argument',
      `event type "${type}" is reserved: ${reservedPrefixes.join(', ')} are the hub's`,
    );
}

/** Throws `invalid-argument` unless callers may publish to `name`: the hub's own channels are written by the hub alone. */
export function checkForeignChannel(name: string): void {
  checkChannelName(name);
  if (name === fleetChannel || reservedPrefixes.some((prefix) => name.startsWith(prefix)))
    throw new HubError('invalid-argument', `channel "${name}" is written by the hub alone`);
}
