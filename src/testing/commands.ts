import { randomUUID } from 'node:crypto';
import type { Command, CommandUpdate } from '../protocol/command.ts';

/** A command with every field filled in, for tests that care about few of them. */
export function testCommand(fields: Partial<Command> = {}): Command {
  return {
    id: randomUUID(),
    tenant: 'default',
    clientId: 'pump-7',
    payload: { type: 'test.Do', value: new Uint8Array([1, 2, 3]) },
    whenOffline: 'fail',
    timeoutMs: 30_000,
    waitForConnectMs: 0,
    ttlMs: 3_600_000,
    idempotent: false,
    ...fields,
  };
}

/** Reads updates to their end. */
export async function collect(updates: AsyncIterable<CommandUpdate>): Promise<CommandUpdate[]> {
  const all: CommandUpdate[] = [];
  for await (const update of updates) all.push(update);
  return all;
}
