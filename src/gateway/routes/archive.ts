import { z } from 'zod';
import { mayReadChannel, requireChannel, requireScope } from '../../auth/access.ts';
import { HubError } from '../../errors.ts';
import type { EventArchive } from '../../events/event-archive.ts';
import { FieldError } from '../problem.ts';
import type { App } from '../room.ts';
import { eventView } from './channels.ts';
import { problems } from './words.ts';

const list = (value: string | readonly string[] | undefined): string[] | undefined =>
  value === undefined ? undefined : [value].flat();
const texts = z.union([z.string().max(160), z.array(z.string().max(160)).max(64)]).optional();
const time = z
  .string()
  .refine((text) => !Number.isNaN(Date.parse(text)), 'ISO 8601, as 2026-01-31T12:00:00Z')
  .optional();

/** Of a hub that keeps no archive. */
export const noArchive: EventArchive = {
  query: () =>
    Promise.reject(new HubError('unimplemented', 'this hub keeps no archive of events: it needs a data directory')),
  close: () => Promise.resolve(),
};

/** Looking for stored events across channels. */
export function addArchiveRoutes(app: App, archive: EventArchive): void {
  app.get(
    '/v1/archive',
    {
      schema: {
        summary: 'Look for stored events, newest first',
        tags: ['events'],
        querystring: z.strictObject({
          channel: texts.describe('A channel, or the beginning of names with * behind; repeat the parameter'),
          type: texts.describe('A type of event; repeat the parameter'),
          from: time.describe('From then on'),
          to: time.describe('Up to then'),
          text: z.string().min(1).max(200).optional().describe('What the data has somewhere'),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
          after: z.string().max(512).optional().describe('`next` of the page before'),
        }),
        response: {
          200: z.object({
            events: z.array(eventView.partial({ epoch: true, seq: true })),
            next: z.string().optional().describe('There is more, also where this page is short'),
          }),
          ...problems,
        },
      },
    },
    async ({ principal, query }, reply) => {
      requireScope(principal, 'events:read');
      const channels = list(query.channel);
      for (const channel of channels ?? []) {
        if (channel === '') throw new FieldError('channel', 'channel is empty');
        if (!channel.endsWith('*')) requireChannel(principal, channel);
      }
      const page = await archive.query({
        tenant: principal.tenant,
        channels,
        types: list(query.type),
        fromMs: query.from === undefined ? undefined : Date.parse(query.from),
        toMs: query.to === undefined ? undefined : Date.parse(query.to),
        text: query.text,
        limit: query.limit,
        after: query.after,
      });
      // What a pattern finds may be more than the caller may read.
      const events = page.events
        .filter(({ channel }) => mayReadChannel(principal, channel))
        .map(({ atMs, data, ...event }) => {
          const head = JSON.stringify({ ...event, at: new Date(atMs).toISOString() });
          return `${head.slice(0, -1)},"data":${data}}`;
        });
      const next = page.next === undefined ? '' : `,"next":${JSON.stringify(page.next)}`;
      reply.header('cache-control', 'no-store').type('application/json; charset=utf-8');
      return reply.send(`{"events":[${events.join(',')}]${next}}` as never);
    },
  );
}
