import { z } from 'zod';
import { requireScope } from '../../auth/access.ts';
import type { App, Room } from '../room.ts';
import { problems } from './words.ts';

/** Answers for whoever runs this: is it alive, is it ready, how is it. */
export function addSystemRoutes(app: App, room: Room): void {
  const { metrics, ready } = room.options;
  app.get(
    '/health',
    {
      config: { access: 'open' },
      schema: {
        summary: 'Is the process alive',
        tags: ['system'],
        response: { 200: z.object({ ok: z.literal(true) }), ...problems },
      },
    },
    async (_, reply) => {
      reply.header('cache-control', 'no-store');
      return { ok: true as const };
    },
  );

  const readiness = z.object({ ok: z.boolean(), reasons: z.array(z.string()).describe('Why not') });
  app.get(
    '/ready',
    {
      config: { access: 'open' },
      schema: {
        summary: 'May it be given work',
        tags: ['system'],
        response: { 200: readiness, 503: readiness, '4xx': problems['4xx'] },
      },
    },
    async (_, reply) => {
      const { ok, reasons } = (await ready?.()) ?? { ok: true, reasons: [] };
      const all = room.isDraining() ? [...reasons, 'draining'] : [...reasons];
      const isReady = ok && !room.isDraining();
      reply.header('cache-control', 'no-store').code(isReady ? 200 : 503);
      return reply.send({ ok: isReady, reasons: all });
    },
  );

  if (metrics !== undefined)
    app.get(
      '/metrics',
      {
        schema: {
          summary: 'Figures for Prometheus',
          tags: ['system'],
          response: {
            200: { description: 'Prometheus text', content: { 'text/plain': { schema: z.string() } } },
            ...problems,
          },
        },
      },
      async ({ principal }, reply) => {
        requireScope(principal, 'clients:read');
        const { contentType, body } = await metrics();
        return reply.header('cache-control', 'no-store').type(contentType).send(body);
      },
    );

  app.get(
    '/openapi.json',
    {
      config: { access: 'open' },
      schema: {
        summary: 'This description',
        tags: ['system'],
        response: { 200: z.record(z.string(), z.unknown()), ...problems },
      },
    },
    async () => app.swagger() as unknown as Record<string, unknown>,
  );
}
