import { toHubError } from '../../errors.ts';
import { channelKey, commandChannel } from '../../events/channels.ts';
import type { EventLog, LogEvent } from '../../events/event-log.ts';
import type { Lease } from '../../leases/index.ts';
import {
  type Command,
  type CommandRecord,
  type CommandState,
  type CommandUpdate,
  isTerminal,
  isTerminalUpdate,
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
    // Updates live in memory for a while, perhaps in that of another node.
    closing: hasEnded && !(await isEndInLog(log, key)) ? await knownFrames(room, record) : undefined,
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

/** What is still known of a command that has ended: all its steps, or its end after the word that there were more. */
async function knownFrames(room: Room, { command, last }: CommandRecord): Promise<Buffer> {
  const { tenant, id, clientId } = command;
  const signal = AbortSignal.timeout(askWithinMs);
  const updates: CommandUpdate[] = [];
  try {
    for await (const update of room.hub.watch(tenant, id, { clientId, signal })) updates.push(update);
  } catch (error) {
    // The node that knew more is not there any more, which is told below. Anything else is not for the stream to hide.
    if (!['not-found', 'unavailable', 'outcome-unknown'].includes(toHubError(error).code)) throw error;
  }
  const end = updates.at(-1);
  if (end && isTerminalUpdate(end)) return Buffer.concat(updates.map((update) => frameOf(room, command, update)));
  const gap = gapFrame(channelKey(tenant, commandChannel(id)), { kind: 'reset', reason: 'unknown-position' });
  return Buffer.concat([gap, frameOf(room, command, last)]);
}

function frameOf(room: Room, command: Command, update: CommandUpdate): Buffer {
  const type = `command.${update.state}`;
  const data = { ...showUpdate(update, room.types), type: command.payload.type };
  const at = new Date(update.atMs).toISOString();
  return encodeFrame(type, JSON.stringify({ channel: commandChannel(command.id), type, at, data }));
}

/** The node that has the command answers within so many ms, or is taken for gone. */
const askWithinMs = 3000;
