import { channelKey, commandChannel } from '../../events/channels.ts';
import type { EventLog, LogEvent } from '../../events/event-log.ts';
import type { Lease } from '../../leases/index.ts';
import type { CommandRecord } from '../../protocol/command.ts';
import { type CommandState, isTerminal } from '../../protocol/command.ts';
import type { Room } from '../room.ts';
import { type AskedForStream, answerStream, type StreamReply } from '../sse/answer.ts';
import { encodeFrame } from '../sse/frame.ts';
import { showUpdate } from '../views.ts';

/** Answers with the updates of one command, from the first; the stream ends after the terminal one. */
export async function answerCommandStream(
  room: Room,
  request: AskedForStream,
  reply: StreamReply,
  commandId: string,
  options: { isNew?: boolean; lease?: Lease | undefined } = {},
): Promise<void> {
  const { tenant } = request.principal;
  const { log } = room.options;
  const record = await room.hub.get(tenant, commandId);
  const key = channelKey(tenant, commandChannel(commandId));
  const hasEnded = isTerminal(record.last.state);
  await answerStream(room, request, reply, {
    keys: [key],
    from: 'start',
    isLast,
    // Updates live in memory for a while. Of a command whose end is gone from there the record still tells the end.
    closing: hasEnded && !(await isEndInLog(log, key)) ? closingFrame(room, record) : undefined,
    isEnded: async ({ positions }) => {
      if (!hasEnded) return false;
      const page = await log.read(key, positions[0]!, 1);
      return page.events.length === 0 && page.gap === undefined;
    },
    ...options,
    headers: options.isNew ? { location: `/v1/commands/${commandId}` } : {},
  });
}

function isLast(event: LogEvent): boolean {
  return event.type.startsWith('command.') && isTerminal(event.type.slice('command.'.length) as CommandState);
}

async function isEndInLog(log: EventLog, key: string): Promise<boolean> {
  const { epoch, seq } = await log.end(key);
  if (seq === 0) return false;
  const { events } = await log.read(key, { epoch, seq: seq - 1 }, 1);
  return events.some(isLast);
}

function closingFrame(room: Room, { command, last }: CommandRecord): Buffer {
  const type = `command.${last.state}`;
  const data = { ...showUpdate(last, room.types), type: command.payload.type };
  const at = new Date(last.atMs).toISOString();
  return encodeFrame(type, JSON.stringify({ channel: commandChannel(command.id), type, at, data }));
}
