import { channelKey } from '../../events/channels.ts';
import type { LogEvent } from '../../events/event-log.ts';
import { findEvent, isBefore } from '../../events/find-event.ts';
import type { Lease } from '../../leases/index.ts';
import { doneData, isTerminalRun, type Run, runChannel } from '../../tasks/index.ts';
import type { Room } from '../room.ts';
import { type AskedForStream, answerStream, type StreamReply } from '../sse/answer.ts';
import { encodeFrame } from '../sse/frame.ts';

/**
 * Answers with the events of one run, from the first that is kept; the stream ends after `done`. Whether it has ended
 * is asked of the store: a `done` that the channel does not have leaves nobody waiting.
 */
export async function answerTaskStream(
  room: Room,
  request: AskedForStream,
  reply: StreamReply,
  run: Run,
  options: { isNew?: boolean; lease?: Lease | undefined } = {},
): Promise<void> {
  const key = channelKey(run.tenant, runChannel(run.id));
  const hasEnded = isTerminalRun(run.state);
  const end = hasEnded ? await findEvent(room.options.log, key, isLast) : undefined;
  await answerStream(room, request, reply, {
    keys: [key],
    from: 'start',
    isLast,
    closing: hasEnded && end === undefined ? closingFrame(run) : undefined,
    // Who is past the end has seen it, whatever was restarted since: nothing will ever come for them.
    isEnded: async ({ positions }) => end !== undefined && !isBefore(positions[0]!, end),
    ...options,
    headers: options.isNew ? { location: `/v1/tasks/${run.id}` } : {},
  });
}

const isLast = (event: LogEvent): boolean => event.type === 'done';

function closingFrame(run: Run): Buffer {
  const at = new Date(run.endedAtMs ?? run.updatedAtMs).toISOString();
  return encodeFrame('done', JSON.stringify({ channel: runChannel(run.id), type: 'done', at, data: doneData(run) }));
}
