import { HubError } from '../errors.ts';
import { defaultTenant } from '../events/channels.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { timeOrderedId, uniqueId } from '../flow/unique-id.ts';
import { checkCommandId, checkTenant, limits } from '../protocol/checks.ts';
import type { Command, Payload } from '../protocol/command.ts';

/** How one command is sent. Each may also be given once, as a client's `defaults`. */
export interface SendOptions {
  /**
   * Live commands: the whole life, in ms from acceptance. Queued commands: how long `request` waits; the command
   * itself lives on. Default: 30000.
   */
  timeoutMs?: number | undefined;
  /**
   * `fail`: a live command, which needs a stream now (or within `waitForConnectMs`). `queue`: stored before it is
   * accepted, and sent when the client comes. Default: `fail`, as nobody wants yesterday's `start()` to run today.
   */
  whenOffline?: 'fail' | 'queue' | undefined;
  /** Live commands: how long to wait for the client to connect, in ms, before `timeoutMs` begins. Default: 0. */
  waitForConnectMs?: number | undefined;
  /** Queued commands: how long it may wait to be sent, in ms. Default: 24 hours. */
  ttlMs?: number | undefined;
  /** Queued commands: how long it may run once the device has it, in ms. Default: 0, no limit. */
  finishWithinMs?: number | undefined;
  /** Two sends with the same key to the same client are one command. Default: none. */
  idempotencyKey?: string | undefined;
  /** True when running it twice does no harm, so that it may be repeated after a lost answer. Default: false. */
  idempotent?: boolean | undefined;
  /** Commands of one client with the same key run one after the other. Default: none. */
  orderingKey?: string | undefined;
  /** A newer queued command with the same key replaces those not sent yet. Default: none. */
  coalesceKey?: string | undefined;
  /** At most 64 of `A-Z a-z 0-9 _ -`. Sending the same id again is the same command. Default: a new UUID. */
  commandId?: string | undefined;
  /** W3C trace context to travel with the command. Default: none. */
  traceparent?: string | undefined;
  /** Aborting asks for a cancel; what became of the command is still told. */
  signal?: AbortSignal | undefined;
}

/** What may be set for all commands of a client. */
export type SendDefaults = Omit<SendOptions, 'commandId' | 'idempotencyKey' | 'signal'>;

/** Options with everything that has a default filled in. */
export interface SendPlan extends SendOptions {
  readonly timeoutMs: number;
  readonly whenOffline: 'fail' | 'queue';
  readonly waitForConnectMs: number;
  readonly ttlMs: number;
  readonly finishWithinMs: number;
  readonly idempotent: boolean;
}

export const standardPlan: SendPlan = {
  timeoutMs: 30_000,
  whenOffline: 'fail',
  waitForConnectMs: 0,
  ttlMs: 24 * 3600_000,
  finishWithinMs: 0,
  idempotent: false,
};

/** Lays `options` over `base`. Throws `invalid-argument` naming the first value that cannot be. */
export function planSend(base: SendPlan, options: SendOptions | undefined): SendPlan {
  if (options === undefined) return base;
  checkMs('timeoutMs', options.timeoutMs, 1, maxTimerMs);
  checkMs('waitForConnectMs', options.waitForConnectMs, 0, maxTimerMs);
  checkMs('ttlMs', options.ttlMs, 1, limits.durationMs);
  checkMs('finishWithinMs', options.finishWithinMs, 0, maxTimerMs);
  checkText('idempotencyKey', options.idempotencyKey);
  checkText('orderingKey', options.orderingKey);
  checkText('coalesceKey', options.coalesceKey);
  checkText('traceparent', options.traceparent);
  if (options.commandId !== undefined) checkCommandId(options.commandId);
  if (options.idempotent !== undefined && typeof options.idempotent !== 'boolean')
    throw invalid('idempotent', options.idempotent, 'true or false');
  const whenOffline = options.whenOffline ?? base.whenOffline;
  if (whenOffline !== 'fail' && whenOffline !== 'queue') throw invalid('whenOffline', whenOffline, "'fail' or 'queue'");
  const coalesceKey = options.coalesceKey ?? base.coalesceKey;
  if (coalesceKey !== undefined && whenOffline === 'fail' && options.coalesceKey !== undefined)
    throw invalid('coalesceKey', coalesceKey, "used with whenOffline: 'queue'");
  return {
    timeoutMs: options.timeoutMs ?? base.timeoutMs,
    whenOffline,
    waitForConnectMs: options.waitForConnectMs ?? base.waitForConnectMs,
    ttlMs: options.ttlMs ?? base.ttlMs,
    finishWithinMs: options.finishWithinMs ?? base.finishWithinMs,
    idempotent: options.idempotent ?? base.idempotent,
    idempotencyKey: options.idempotencyKey ?? base.idempotencyKey,
    orderingKey: options.orderingKey ?? base.orderingKey,
    coalesceKey,
    commandId: options.commandId,
    traceparent: options.traceparent ?? base.traceparent,
    signal: options.signal,
  };
}

/** The command that goes out. */
export function toCommand(
  tenant: string,
  clientId: string,
  payload: Payload,
  plan: SendPlan,
  clock: Clock = systemClock,
): Command {
  const isLive = plan.whenOffline === 'fail';
  return {
    // Those that are stored stand side by side in the store's index: random ones would each touch a page of their own.
    id: plan.commandId ?? (isLive ? uniqueId() : timeOrderedId(clock.now())),
    tenant,
    clientId,
    payload,
    whenOffline: plan.whenOffline,
    timeoutMs: isLive ? plan.timeoutMs : plan.finishWithinMs,
    waitForConnectMs: isLive ? plan.waitForConnectMs : 0,
    ttlMs: isLive ? 0 : plan.ttlMs,
    idempotent: plan.idempotent,
    idempotencyKey: plan.idempotencyKey,
    orderingKey: plan.orderingKey,
    coalesceKey: isLive ? undefined : plan.coalesceKey,
    traceparent: plan.traceparent,
  };
}

/** The tenant to send for. Default: `default`. */
export function tenantOr(tenant: string | undefined): string {
  if (tenant === undefined) return defaultTenant;
  checkTenant(tenant);
  return tenant;
}

export function invalid(name: string, value: unknown, wanted: string): HubError {
  const shown = typeof value === 'string' ? JSON.stringify(value.slice(0, 100)) : String(value);
  return new HubError('invalid-argument', `${name} is ${shown}: it has to be ${wanted}`);
}

// Milliseconds travel as uint32, and a timer cannot wait longer.
const maxTimerMs = 2 ** 31 - 1;

function checkMs(name: string, value: number | undefined, least: number, most: number): void {
  if (value !== undefined && !(Number.isInteger(value) && value >= least && value <= most))
    throw invalid(name, value, `a whole number of milliseconds from ${least} to ${most}`);
}

function checkText(name: string, value: string | undefined): void {
  if (value === undefined) return;
  if (typeof value !== 'string' || value.length > limits.keyLength || !/^[\x21-\x7e]+$/.test(value))
    throw invalid(name, value, `1 to ${limits.keyLength} visible ASCII characters`);
}
