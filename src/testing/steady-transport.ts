import { HubError } from '../errors.ts';
import { type Command, type CommandUpdate, isTerminalUpdate } from '../protocol/command.ts';
import type { CommandTransport } from '../protocol/command-transport.ts';

/** A hub and the news of its death. */
export interface MortalHub {
  readonly hub: CommandTransport;
  /** Resolves when it is dead; it tells nothing any more. */
  readonly gone: Promise<void>;
}

const order = ['queued', 'sent', 'delivered', 'started', 'progress'];

/** A road to whichever hub lives: what was told is not told again by the next one. */
export function steadyTransport(current: () => MortalHub): CommandTransport {
  return { send: (command, options) => updates(current, command, options?.signal) };
}

async function* updates(
  current: () => MortalHub,
  command: Command,
  signal: AbortSignal | undefined,
): AsyncGenerator<CommandUpdate, void> {
  let told = -1;
  for (;;) {
    const { hub, gone } = current();
    // To a hub that comes later an abort of before is a cancel of what was accepted, and no refusal.
    const relay = new AbortController();
    const abort = (): void => relay.abort(signal?.reason);
    if (signal?.aborted && told < 0) abort();
    else signal?.addEventListener('abort', abort, { once: true });
    const reading = hub.send(command, { signal: relay.signal })[Symbol.asyncIterator]();
    if (signal?.aborted) abort();
    const death = gone.then(() => 'gone' as const);
    try {
      for (;;) {
        const next = await Promise.race([reading.next(), death]);
        if (next === 'gone') break;
        if (next.done) return;
        const rank = order.indexOf(next.value.state);
        if (isTerminalUpdate(next.value) || rank > told || next.value.state === 'progress') yield next.value;
        told = Math.max(told, rank);
      }
    } finally {
      signal?.removeEventListener('abort', abort);
      void reading.return?.();
    }
    if (command.whenOffline === 'fail')
      throw new HubError('outcome-unknown', `the hub died with command ${command.id}`, { commandId: command.id });
  }
}
