import { randomUUID } from 'node:crypto';
import { toHubError } from '../../../src/errors.ts';
import { isTerminalUpdate } from '../../../src/protocol/command.ts';
import type { CommandTransport } from '../../../src/protocol/command-transport.ts';
import { testCommand } from '../../../src/testing/index.ts';
import type { CallerLine, Ledger } from './ledger.ts';
import { order } from './order.ts';
import { sleep } from './sizes.ts';

export interface Submission {
  readonly clientId: string;
  readonly content: string;
  readonly orderingKey?: string | undefined;
  readonly idempotencyKey?: string | undefined;
  readonly idempotent?: boolean | undefined;
  readonly live?: boolean | undefined;
  /** Of live ones. Default: 30 s. */
  readonly timeoutMs?: number | undefined;
  /** Of live ones. Default: 10 s. */
  readonly waitForConnectMs?: number | undefined;
  readonly ttlMs?: number | undefined;
  /** How often it is submitted again, under the same id, when a hub that is away has refused it for certain. Default: 0. */
  readonly retries?: number | undefined;
}

/** Sends one command, and writes down what its caller is told. */
export function submit(
  transport: CommandTransport,
  ledger: Pick<Ledger<CallerLine>, 'write'>,
  {
    clientId,
    content,
    orderingKey = 'one',
    idempotencyKey,
    idempotent = false,
    live = false,
    timeoutMs = 30_000,
    waitForConnectMs = 10_000,
    ttlMs = 3_600_000,
    retries = 0,
  }: Submission,
): { readonly id: string; readonly accepted: Promise<boolean>; readonly ended: Promise<string> } {
  const id = randomUUID();
  const command = testCommand({
    id,
    clientId,
    payload: { type: order.type, value: order.encode({ content, orderingKey }) },
    whenOffline: live ? 'fail' : 'queue',
    timeoutMs: live ? timeoutMs : 0,
    waitForConnectMs: live ? waitForConnectMs : 0,
    ttlMs: live ? 0 : ttlMs,
    orderingKey,
    idempotencyKey,
    idempotent,
  });
  ledger.write({ kind: 'submitted', id, clientId, content, orderingKey, key: idempotencyKey, idempotent });
  const accepted = Promise.withResolvers<boolean>();
  const read = async (retriesLeft: number): Promise<string> => {
    let as: string | undefined;
    try {
      for await (const update of transport.send(command)) {
        if (as === undefined) {
          as = update.commandId;
          ledger.write({ kind: 'accepted', id, as });
          accepted.resolve(true);
        }
        if (!isTerminalUpdate(update)) continue;
        ledger.write({ kind: 'ended', id, as: update.commandId, state: update.state });
        return update.state;
      }
      return 'no end';
    } catch (thrown) {
      const { code, message } = toHubError(thrown);
      ledger.write({ kind: 'refused', id, code, message });
      if (code !== 'unavailable' || as !== undefined || retriesLeft === 0) return code;
    }
    await sleep(50);
    return read(retriesLeft - 1);
  };
  const ended = read(retries).finally(() => accepted.resolve(false));
  return { id, accepted: accepted.promise, ended };
}
