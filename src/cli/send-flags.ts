import type { Command } from 'commander';
import type { SendOptions } from '../commands/send-options.ts';
import { parseDuration } from './arguments.ts';
import type { Outside } from './terminal.ts';

/** The options of `send` and `fleet` that say how a command is sent. */
export interface SendFlags {
  queue?: boolean;
  ttl?: number;
  timeout?: number;
  wait?: number;
  idempotent?: boolean;
  idempotencyKey?: string;
  orderingKey?: string;
  coalesceKey?: string;
  id?: string;
}

export function withSendOptions(command: Command): Command {
  return command
    .option('--queue', 'store the command, and deliver it when the device comes')
    .option('--ttl <time>', 'queued: how long it may wait to be sent (default: 24h)', parseDuration)
    .option('--timeout <time>', 'how long it may take from acceptance to its end (default: 30s)', parseDuration)
    .option('--idempotent', 'running it twice does no harm, so it may be repeated after a lost answer')
    .option('--ordering-key <key>', 'commands with one key run one after the other')
    .option('--coalesce-key <key>', 'queued: replaces those with the same key that were not sent yet');
}

/** The variable `TRACEPARENT`, where it holds a W3C trace context, makes the command a part of that trace. */
export function sendOptions(flags: SendFlags, { env }: Pick<Outside, 'env'>): SendOptions {
  const traceparent = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.exec(env.TRACEPARENT ?? '')?.[0];
  return {
    whenOffline: flags.queue ? 'queue' : 'fail',
    timeoutMs: flags.timeout,
    ttlMs: flags.ttl,
    waitForConnectMs: flags.wait,
    idempotent: flags.idempotent,
    idempotencyKey: flags.idempotencyKey,
    orderingKey: flags.orderingKey,
    coalesceKey: flags.coalesceKey,
    commandId: flags.id,
    traceparent,
  };
}
