import { z } from 'zod';
import { requireChannel } from '../../auth/access.ts';
import { channelKey } from '../../events/channels.ts';
import { channelsFingerprint, decodeCursor, encodeCursor } from '../../events/cursor.ts';
import type { LogEvent } from '../../events/event-log.ts';
import { FieldError } from '../problem.ts';
import type { App, Room } from '../room.ts';
import { eventJsonWith } from '../views.ts';
import { channel, problems } from './words.ts';

/** An answer holds at most about this many bytes of events; the rest is in the next page. */
const maxPageBytes = 4 * 1024 * 1024;

const eventView = z.object({
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
      const key = channelKey(principal.tenant, name);
      const known = after === undefined ? undefined : decodeCursor(after, [key]);
      if (known !== undefined && known.kind !== 'positions')
        throw new FieldError('after', `after is ${known.kind === 'foreign' ? 'of another channel' : 'no cursor'}`);
      const page = await log.read(key, known?.positions[0] ?? { epoch: 0, seq: 0 }, limit);
      const events: string[] = [];
      let { next, atEnd } = page;
      let bytes = 0;
      for (const event of page.events) {
        const json = jsonOf(event);
        if (events.length > 0 && bytes + json.length > maxPageBytes) {
          atEnd = false;
          break;
        }
        bytes += json.length;
        events.push(json);
        if (events.length < page.events.length) next = { epoch: event.epoch, seq: event.seq };
        else next = page.next;
      }
      const gap = page.gap === undefined ? '' : `"gap":${JSON.stringify(page.gap)},`;
      // The events are JSON texts already.
      const body = `{"events":[${events.join(',')}],${gap}"next":${JSON.stringify(encodeCursor(channelsFingerprint([key]), [next]))},"atEnd":${atEnd}}`;
      return reply.type('application/json; charset=utf-8').send(body as never);
    },
  );
}
