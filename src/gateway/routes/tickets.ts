import { z } from 'zod';
import type { App, Room } from '../room.ts';
import { problems } from './words.ts';

export function addTicketRoutes(app: App, { tickets }: Room): void {
  app.post(
    '/v1/tickets',
    {
      schema: {
        summary: 'Get a one-use ticket for an event stream',
        description:
          'For EventSource, which cannot send a token: `new EventSource("/v1/events?channel=fleet&ticket=...")`.',
        tags: ['events'],
        body: z.strictObject({}).nullish(),
        response: {
          201: z.object({
            ticket: z.string(),
            expiresInMs: z.number().describe('It is good for at most this long'),
          }),
          ...problems,
        },
      },
    },
    async ({ principal }, reply) => {
      const ticket = tickets.issue(principal);
      reply.header('cache-control', 'no-store').code(201);
      return reply.send({ ticket, expiresInMs: 30_000 });
    },
  );
}
