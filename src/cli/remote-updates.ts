import { HubError } from '../errors.ts';
import type { CommandUpdate } from '../protocol/command.ts';
import { updateFromProto } from '../protocol/convert.ts';
import type { RemoteHub } from './connect.ts';

/** Updates of a command that somebody sent, up to its end. Throws `not-found`, and `deadline-exceeded` after `timeoutMs`. */
export async function* watchCommand(
  hub: RemoteHub,
  commandId: string,
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs?: number | undefined },
): AsyncGenerator<CommandUpdate, void, undefined> {
  const limit = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const either = limit === undefined ? signal : AbortSignal.any([signal, limit]);
  try {
    for await (const { update } of hub.services.commands.watchCommand({ commandId }, { signal: either }))
      yield updateFromProto(update);
  } catch (error) {
    if (!limit?.aborted) throw error;
    throw new HubError('deadline-exceeded', `no end of command ${commandId} within ${timeoutMs} ms; it goes on`, {
      commandId,
    });
  }
}
