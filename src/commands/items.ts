import { HubError } from '../errors.ts';
import type { CommandCodec } from '../protocol/codec.ts';
import type { CommandUpdate } from '../protocol/command.ts';
import { isTerminalUpdate } from '../protocol/command.ts';
import { errorOf } from './outcome.ts';
import { fromPayload } from './payloads.ts';

/**
 * The items that a server-streaming method yields, out of its updates. Throws the error of any end but success, and
 * `unavailable` where items were lost on the way: a list with a hole is never taken for a whole one.
 * Leaving early means that nobody wants more of it: the command is cancelled.
 */
export async function* itemsOf<T>(
  codec: CommandCodec<T>,
  signal: AbortSignal | undefined,
  begin: (signal: AbortSignal) => AsyncIterable<CommandUpdate>,
): AsyncGenerator<T, void, undefined> {
  const leaving = new AbortController();
  // Linked by hand and let go below: AbortSignal.any keeps every short-lived signal on a long-lived one.
  const onAbort = (): void => leaving.abort(signal?.reason);
  if (signal?.aborted) onAbort();
  else signal?.addEventListener('abort', onAbort);
  let items = 0;
  try {
    for await (const update of begin(leaving.signal)) {
      if (update.state === 'progress' && update.progress.item !== undefined) {
        const { itemNumber } = update.progress;
        items++;
        if (itemNumber !== undefined && itemNumber !== items) {
          const error = new HubError(
            'unavailable',
            `items ${items} to ${itemNumber - 1} of command ${update.commandId} were lost with the connection`,
            { commandId: update.commandId },
          );
          leaving.abort(error);
          throw error;
        }
        let isWanted = false;
        try {
          yield fromPayload(codec, update.progress.item, update.commandId);
          isWanted = true;
        } finally {
          // Here and not below: the road has to hear it before the loop lets go of it.
          if (!isWanted) leaving.abort(new HubError('command-cancelled', 'the caller wants no more items'));
        }
      } else if (isTerminalUpdate(update)) {
        if (update.state !== 'succeeded') throw errorOf(update);
        return;
      }
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}
