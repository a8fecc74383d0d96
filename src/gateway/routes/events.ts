import { z } from 'zod';
import { requireChannel } from '../../auth/access.ts';
import type { Principal } from '../../auth/principal.ts';
import { channelKey, checkChannelName } from '../../events/channels.ts';
import { FieldError } from '../problem.ts';
import type { App, Room } from '../room.ts';
import { answerStream } from '../sse/answer.ts';
import { eventStream, streamProblems, streamQuery } from './words.ts';

/** Most channels of one stream. */
const maxChannels = 16;

export const watchQuery = z.strictObject({
  channel: z.union([z.string(), z.array(z.string())]).describe(`1 to ${maxChannels} channels: repeat the parameter`),
  ...streamQuery,
});

/** The keys of the channels that a caller names and may read. Throws for others, naming them. */
export function channelsOfQuery(principal: Principal, channel: string | readonly string[]): string[] {
  const names = [...new Set([channel].flat())];
  if (names.length > maxChannels)
    throw new FieldError('channel', `${names.length} channels are too many for one stream, at most ${maxChannels}`);
  for (const name of names) {
    try {
      checkChannelName(name);
    } catch (error) {
      throw new FieldError('channel', (error as Error).message);
    }
    requireChannel(principal, name);
  }
  return names.map((name) => channelKey(principal.tenant, name));
}

export function addEventRoutes(app: App, room: Room): void {
  app.get(
    '/v1/events',
    {
      config: { access: 'stream' },
      schema: {
        summary: 'Watch some channels, as server-sent events',
        tags: ['events'],
        querystring: watchQuery,
        response: { 200: eventStream, ...streamProblems },
      },
    },
    async (request, reply) => {
      const { principal, query } = request;
      const keys = channelsOfQuery(principal, query.channel);
      await answerStream(room, request, reply, {
        keys,
        idleLimitMs: room.limits.idleLimitMs,
      });
      return reply;
    },
  );
}
