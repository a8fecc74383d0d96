import { channelKey, commandChannel } from '../../events/channels.ts';
import type { EventLog, LogEvent } from '../../events/event-log.ts';
import type { Lease } from '../../leases/index.ts';
import {
  type Command,
  type CommandRecord,
  type CommandState,
  type CommandUpdate,
  isTerminal,
} from '../../protocol/command.ts';
import type { Room } from '../room.ts';
import { type AskedForStream, answerStream, type StreamReply } from '../sse/answer.ts';
import { encodeFrame, gapFrame } from '../sse/frame.ts';
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
    closing: hasEnded && !(await isEndInLog(log, key)) ? closingFrames(room, record) : undefined,
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

/** Whether the end is, or comes, by the log. */
async function isEndInLog(log: EventLog, key: string): Promise<boolean> {
  // The first to read a channel waits for the node that has the command.
  await log.read(key, { epoch: 0, seq: 0 }, 1);
  const { epoch, seq } = await log.end(key);
  if (seq === 0) return false;
  const { events } = await log.read(key, { epoch, seq: seq - 1 }, 1);
  return events.some(isLast);
}

/** The end of a command, after the word that there was more. */
function closingFrames(room: Room, { command, last }: CommandRecord): Buffer {
  const gap = gapFrame(channelKey(command.tenant, commandChannel(command.id)), {
    kind: 'reset',
    reason: 'unknown-position',
  });
  return Buffer.concat([gap, frameOf(room, command, last)]);
}

function frameOf(room: Room, command: Command, update: CommandUpdate): Buffer {
  const type = `command.${update.state}`;
  const data = { ...showUpdate(update, room.types), type: command.payload.type };
  const at = new Date(update.atMs).toISOString();
  return encodeFrame(type, JSON.stringify({ channel: commandChannel(command.id), type, at, data }));
}
