import { HubError } from '../errors.ts';
import type { Command, Progress } from './command.ts';

/** Limits on what callers and devices may choose. They bound memory and keep names printable everywhere. */
export const limits = {
  clientIdLength: 128,
  commandIdLength: 64,
  keyLength: 128,
  labels: 64,
  labelLength: 256,
  typeLength: 256,
  textLength: 4096,
  /** Milliseconds: 366 days. */
  durationMs: 366 * 24 * 3600 * 1000,
  /** Bytes of a bearer token. */
  tokenBytes: 8192,
  /** Bytes: 1 MiB. */
  payloadBytes: 1024 * 1024,
} as const;

const clientId = /^[A-Za-z0-9][A-Za-z0-9._:@-]*$/;
const commandId = /^[A-Za-z0-9_-]+$/;
const typeName = /^[A-Za-z0-9_.:/-]*$/;
/** The type that was found good last: there are few. */
let lastType = '';
const visible = /^[\x21-\x7e]*$/;

/** Throws `invalid-argument` unless it is 1 to 128 of `A-Z a-z 0-9 . _ : @ -`, beginning with a letter or digit. */
export function checkClientId(id: string): void {
  if (id.length > limits.clientIdLength || !clientId.test(id))
    refuse('client id', id, `1 to ${limits.clientIdLength} of A-Z a-z 0-9 . _ : @ -, beginning with a letter or digit`);
}

/** Throws `invalid-argument` unless it is 1 to 64 of `A-Z a-z 0-9 _ -`. */
export function checkCommandId(id: string): void {
  if (id.length > limits.commandIdLength || !commandId.test(id))
    refuse('command id', id, `1 to ${limits.commandIdLength} of A-Z a-z 0-9 _ -`);
}

/** Throws `invalid-argument` unless it can name a tenant: as a client id. */
export function checkTenant(tenant: string): void {
  if (tenant.length > limits.clientIdLength || !clientId.test(tenant))
    refuse('tenant', tenant, `1 to ${limits.clientIdLength} of A-Z a-z 0-9 . _ : @ -`);
}

/** Throws `invalid-argument` for too many labels, long ones, or control characters in them. */
export function checkLabels(labels: Readonly<Record<string, string>>): void {
  const entries = Object.entries(labels);
  if (entries.length > limits.labels) refuse('number of labels', String(entries.length), `at most ${limits.labels}`);
  for (const [key, value] of entries) {
    if (key.length === 0 || key.length > limits.labelLength || !visible.test(key))
      refuse('label name', key, `1 to ${limits.labelLength} visible ASCII characters`);
    if (value.length > limits.labelLength || hasControl(value))
      refuse(`label "${key}"`, value, `at most ${limits.labelLength} characters, none of them a control character`);
  }
}

/**
 * Throws `invalid-argument` that names the first field that is out of bounds. `isKnownClient`: its tenant and id are those
 * of a client that was checked before.
 */
export function checkCommand(
  command: Command,
  maxPayloadBytes: number = limits.payloadBytes,
  isKnownClient = false,
): void {
  checkCommandId(command.id);
  if (!isKnownClient) {
    checkTenant(command.tenant);
    checkClientId(command.clientId);
  }
  const { payload } = command;
  if (payload.type !== lastType && (payload.type.length > limits.typeLength || !typeName.test(payload.type)))
    refuse('payload type', payload.type, `at most ${limits.typeLength} of A-Z a-z 0-9 _ . : / -`);
  lastType = payload.type;
  if (payload.value.length > maxPayloadBytes)
    throw new HubError(
      'invalid-argument',
      `payload has ${payload.value.length} bytes, the limit is ${maxPayloadBytes}`,
    );
  if (command.whenOffline === 'fail') {
    checkDuration('timeoutMs', command.timeoutMs, 1);
    checkDuration('waitForConnectMs', command.waitForConnectMs, 0);
  } else {
    checkDuration('timeoutMs', command.timeoutMs, 0);
    checkDuration('ttlMs', command.ttlMs, 1);
  }
  checkKey('idempotencyKey', command.idempotencyKey);
  checkKey('orderingKey', command.orderingKey);
  checkKey('coalesceKey', command.coalesceKey);
  if (command.coalesceKey !== undefined && command.whenOffline !== 'queue')
    throw new HubError(
      'invalid-argument',
      `coalesceKey "${command.coalesceKey}" is for queued commands, this one is live`,
    );
  if (
    command.traceparent !== undefined &&
    (command.traceparent.length > limits.keyLength || !visible.test(command.traceparent))
  )
    refuse('traceparent', command.traceparent, `at most ${limits.keyLength} visible ASCII characters`);
}

/** What is wrong with a bearer token, or undefined. It is not repeated. */
export function tokenFault(token: string): string | undefined {
  if (!/^[\x21-\x7e]+$/.test(token)) return 'the token is empty or has characters that no header can carry';
  if (token.length > limits.tokenBytes) return `the token has ${token.length} bytes, the limit is ${limits.tokenBytes}`;
  return undefined;
}

/** What is wrong with a progress report, or undefined. */
export function progressFault({ fraction, note }: Progress): string | undefined {
  if (fraction !== undefined && !(fraction >= 0 && fraction <= 1))
    return `progress fraction ${fraction} is not from 0 to 1`;
  if (note !== undefined && note.length > limits.textLength)
    return `progress note has ${note.length} characters, the limit is ${limits.textLength}`;
  return undefined;
}

/** A text for people from somewhere else, cut to what is kept. */
export function clip(text: string): string {
  return text.length <= limits.textLength ? text : `${text.slice(0, limits.textLength - 1)}…`;
}

function checkDuration(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least || value > limits.durationMs)
    refuse(name, String(value), `a whole number of milliseconds from ${least} to ${limits.durationMs}`);
}

function checkKey(name: string, key: string | undefined): void {
  if (key !== undefined && (key.length === 0 || key.length > limits.keyLength || !visible.test(key)))
    refuse(name, key, `1 to ${limits.keyLength} visible ASCII characters`);
}

function hasControl(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code < 0x20 || code === 0x7f || code === 0x2028 || code === 0x2029 || code === 0xfeff) return true;
  }
  return false;
}

function refuse(what: string, value: string, rule: string): never {
  const shown = value.length > 64 ? `${value.slice(0, 64)}…` : value;
  throw new HubError('invalid-argument', `${what} ${JSON.stringify(shown)} is not valid: ${rule}`);
}
