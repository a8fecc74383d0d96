import { channelKey } from '../../events/channels.ts';
import type { EventLog, LogEvent } from '../../events/event-log.ts';
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
  const { log, tasks } = room.options;
  const key = channelKey(run.tenant, runChannel(run.id));
  const hasEnded = isTerminalRun(run.state);
  await answerStream(room, request, reply, {
    keys: [key],
    from: 'start',
    isLast,
    closing: hasEnded && !(await isEndInLog(log, key)) ? closingFrame(run) : undefined,
    isEnded: async ({ positions }) => {
      // What ended between two looks is found by the next one.
      const now = hasEnded ? run : await tasks!.snapshot(run.id, run.tenant);
      if (!isTerminalRun(now.state)) return false;
      const page = await log.read(key, positions[0]!, 1);
      return page.events.length === 0 && page.gap === undefined;
    },
    ...options,
    headers: options.isNew ? { location: `/v1/tasks/${run.id}` } : {},
  });
}

const isLast = (event: LogEvent): boolean => event.type === 'done';

async function isEndInLog(log: EventLog, key: string): Promise<boolean> {
  const { epoch, seq } = await log.end(key);
  if (seq > 0) {
    const { events } = await log.read(key, { epoch, seq: seq - 1 }, 1);
    if (events.some(isLast)) return true;
  }
  // After a restart the end may be in an older epoch.
  let position = { epoch: 0, seq: 0 };
  for (;;) {
    const page = await log.read(key, position, 1000);
    if (page.events.some(isLast)) return true;
    if (page.atEnd || (page.events.length === 0 && page.gap === undefined)) return false;
    position = page.next;
  }
}

function closingFrame(run: Run): Buffer {
  const at = new Date(run.endedAtMs ?? run.updatedAtMs).toISOString();
  return encodeFrame('done', JSON.stringify({ channel: runChannel(run.id), type: 'done', at, data: doneData(run) }));
}
