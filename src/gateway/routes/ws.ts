import type { IncomingMessage, ServerResponse } from 'node:http';
import { z } from 'zod';
import type { App, Room } from '../room.ts';
import { answerStream } from '../sse/answer.ts';
import { webSocketWire } from '../ws/upgrade.ts';
import { channelsOfQuery, watchQuery } from './events.ts';
import { streamProblems } from './words.ts';

/** The channels of `/v1/events` over a WebSocket. */
export function addWebSocketRoute(app: App, room: Room): void {
  app.get(
    '/v1/ws',
    {
      config: { access: 'stream' },
      schema: {
        summary: 'Watch some channels, over a WebSocket',
        description:
          'The same as /v1/events: each event is a text message `{"id", "event", "data"}`; `id` goes on as `last_event_id`.',
        tags: ['events'],
        querystring: watchQuery,
        response: { 101: z.null().describe('A WebSocket'), ...streamProblems },
      },
    },
    async (request, reply) => {
      const keys = channelsOfQuery(request.principal, request.query.channel);
      const wire = webSocketWire(request.raw as IncomingMessage, reply.raw as ServerResponse);
      await answerStream(room, request, reply, { keys, idleLimitMs: room.limits.idleLimitMs, wire });
      return reply;
    },
  );
}
