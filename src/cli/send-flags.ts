import type { Command } from 'commander';
import type { SendOptions } from '../commands/send-options.ts';
import { parseDuration } from './arguments.ts';

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

export function sendOptions(flags: SendFlags): SendOptions {
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
  };
}
