import { z } from 'zod';
import { requireChannel, requireScope } from '../../auth/access.ts';
import { HubError } from '../../errors.ts';
import { channelKey, clientChannel } from '../../events/channels.ts';
import { maySeeClient } from '../access.ts';
import { FieldError } from '../problem.ts';
import type { App, Room } from '../room.ts';
import { answerStream } from '../sse/answer.ts';
import { clientView, showClient } from '../views.ts';
import { clientId, eventStream, flag, problems, streamProblems, streamQuery } from './words.ts';

const params = z.strictObject({ id: clientId });

export function addClientRoutes(app: App, room: Room): void {
  const { clients } = room.hub;

  app.get(
    '/v1/clients',
    {
      schema: {
        summary: 'List clients',
        tags: ['clients'],
        querystring: z.strictObject({
          label: z
            .union([z.string(), z.array(z.string())])
            .optional()
            .describe('`name:value`; only clients that have it. May be repeated'),
          connected: flag.optional().describe('Only those with a live stream'),
        }),
        response: { 200: z.object({ clients: z.array(clientView) }), ...problems },
      },
    },
    async ({ principal, query }) => {
      requireScope(principal, 'clients:read');
      const found = await clients.list(principal.tenant, {
        labels: labelsOf([query.label ?? []].flat()),
        connectedOnly: query.connected,
      });
      return { clients: found.filter(({ id }) => maySeeClient(principal, id)).map(showClient) };
    },
  );

  app.get(
    '/v1/clients/:id',
    {
      schema: {
        summary: 'Get one client',
        tags: ['clients'],
        params,
        response: { 200: clientView, ...problems },
      },
    },
    async ({ principal, params: { id } }) => {
      requireScope(principal, 'clients:read');
      const client = maySeeClient(principal, id) ? await clients.get(principal.tenant, id) : undefined;
      if (client === undefined) throw new HubError('not-found', `there is no client "${id}"`);
      return showClient(client);
    },
  );

  app.get(
    '/v1/clients/:id/events',
    {
      config: { access: 'stream' },
      schema: {
        summary: 'Watch what happens at one client, as server-sent events',
        tags: ['clients', 'events'],
        params,
        querystring: z.strictObject(streamQuery),
        response: { 200: eventStream, ...streamProblems },
      },
    },
    async (request, reply) => {
      const name = clientChannel(request.params.id);
      requireChannel(request.principal, name);
      await answerStream(room, request, reply, { keys: [channelKey(request.principal.tenant, name)] });
      return reply;
    },
  );

  app.post(
    '/v1/clients/:id/disconnect',
    {
      schema: {
        summary: "Close a client's stream",
        tags: ['clients'],
        params,
        body: z
          .strictObject({
            reason: z.string().max(256).optional(),
            mayReconnect: z.boolean().optional().describe('Default: true'),
          })
          .nullish(),
        response: { 200: z.object({ disconnected: z.boolean() }), ...problems },
      },
    },
    async ({ principal, params: { id }, body }) => {
      requireScope(principal, 'admin');
      if ((await clients.get(principal.tenant, id)) === undefined)
        throw new HubError('not-found', `there is no client "${id}"`);
      const { reason, mayReconnect } = body ?? {};
      return {
        disconnected: await clients.disconnect(principal.tenant, id, {
          ...(reason === undefined ? {} : { reason }),
          ...(mayReconnect === undefined ? {} : { mayReconnect }),
        }),
      };
    },
  );
}

function labelsOf(texts: readonly string[]): Record<string, string> {
  const labels: Record<string, string> = Object.create(null);
  for (const text of texts) {
    const colon = text.indexOf(':');
    if (colon < 1) throw new FieldError('label', `${JSON.stringify(text.slice(0, 100))} is no label: name:value`);
    labels[text.slice(0, colon)] = text.slice(colon + 1);
  }
  return labels;
}
