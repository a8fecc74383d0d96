import { z } from 'zod';
import { requireChannel } from '../../auth/access.ts';
import { channelKey } from '../../events/channels.ts';
import type { LogEvent } from '../../events/event-log.ts';
import { historyFields } from '../history.ts';
import type { App, Room } from '../room.ts';
import { eventJsonWith } from '../views.ts';
import { channel, problems } from './words.ts';

export const eventView = z.object({
  channel: z.string(),
  epoch: z.number(),
  seq: z.number(),
  type: z.string(),
  at: z.string(),
  data: z.unknown(),
});

export function addChannelRoutes(app: App, { options: { log }, types }: Room): void {
  const jsonOf = types === undefined ? (event: LogEvent) => event.json() : eventJsonWith(types);
  app.get(
    '/v1/channels/:name/history',
    {
      schema: {
        summary: 'Read what is kept of a channel, oldest first',
        tags: ['events'],
        params: z.strictObject({ name: channel }),
        querystring: z.strictObject({
          after: z.string().max(128).optional().describe('`next` of the page before; default: from the oldest'),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
        }),
        response: {
          200: z.object({
            events: z.array(eventView),
            gap: z.unknown().optional().describe('Set when something before the first event is not kept any more'),
            next: z.string().describe('Cursor after this page'),
            atEnd: z.boolean(),
          }),
          ...problems,
        },
      },
    },
    async ({ principal, params: { name }, query: { after, limit } }, reply) => {
      requireChannel(principal, name);
      const fields = await historyFields(log, channelKey(principal.tenant, name), { after, limit, jsonOf });
      return reply.type('application/json; charset=utf-8').send(`{${fields}}` as never);
    },
  );
}
