import { z } from 'zod';
import { hasScope, requireChannel, requireScope } from '../../auth/access.ts';
import { commandChannel } from '../../events/channels.ts';
import { requireAnyScope } from '../access.ts';
import type { App, Room } from '../room.ts';
import { recordView, showRecord, showUpdate, updateView } from '../views.ts';
import { answerCommandStream } from './command-stream.ts';
import { clientId, commandId, eventStream, flag, problems, streamProblems, streamQuery } from './words.ts';

const params = z.strictObject({ id: commandId });

export function addCommandRoutes(app: App, room: Room): void {
  const { hub, types } = room;

  app.get(
    '/v1/commands',
    {
      schema: {
        summary: 'List commands, newest first',
        tags: ['commands'],
        querystring: z.strictObject({
          clientId: clientId.optional(),
          pending: flag.optional().describe('Only those that have not ended'),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
        }),
        response: { 200: z.object({ commands: z.array(recordView) }), ...problems },
      },
    },
    async ({ principal, query }) => {
      requireAnyScope(principal, 'commands:send', 'clients:read');
      const { clientId, pending: pendingOnly, limit } = query;
      const records = await hub.list({ tenant: principal.tenant, clientId, pendingOnly, limit });
      return { commands: records.map((record) => showRecord(record, types)) };
    },
  );

  app.get(
    '/v1/commands/:id',
    {
      schema: {
        summary: 'Get one command',
        tags: ['commands'],
        params,
        response: { 200: recordView, ...problems },
      },
    },
    async ({ principal, params: { id } }) => {
      requireAnyScope(principal, 'commands:send', 'clients:read');
      return showRecord(await hub.get(principal.tenant, id), types);
    },
  );

  app.get(
    '/v1/commands/:id/events',
    {
      config: { access: 'stream' },
      schema: {
        summary: 'Watch one command to its end, as server-sent events',
        description: 'From the first update that is kept. Ends after the terminal one; coming back then answers 204.',
        tags: ['commands', 'events'],
        params,
        querystring: z.strictObject(streamQuery),
        response: { 200: eventStream, 204: z.null().describe('The stream has ended'), ...streamProblems },
      },
    },
    async (request, reply) => {
      const { principal, params } = request;
      // Who may send commands may see what becomes of them.
      if (!hasScope(principal, 'commands:send')) requireChannel(principal, commandChannel(params.id));
      await answerCommandStream(room, request, reply, params.id);
      return reply;
    },
  );

  app.post(
    '/v1/commands/:id/cancel',
    {
      schema: {
        summary: 'Ask for a command to be cancelled',
        description: 'The answer is the newest update at that moment; a cancel may come too late.',
        tags: ['commands'],
        params,
        body: z.strictObject({ reason: z.string().max(256).optional() }).nullish(),
        response: { 200: updateView, ...problems },
      },
    },
    async ({ principal, params: { id }, body }) => {
      requireScope(principal, 'commands:send');
      return showUpdate(await hub.cancel(principal.tenant, id, body?.reason ?? ''), types);
    },
  );
}
