import { z } from 'zod';
import { HubError } from '../../errors.ts';
import type { GatewayTasks } from '../options.ts';
import type { App, Room } from '../room.ts';
import { visibleRun } from './run-access.ts';
import { answerTaskStream } from './task-stream.ts';
import { commandId, eventStream, streamProblems, streamQuery } from './words.ts';

const run = commandId.describe('The run');

/** The events of a run, to its end: under our path, and under those of systems that people come from. */
export function addTaskStreamRoutes(app: App, room: Room, tasks: GatewayTasks): void {
  const schema = {
    summary: 'Watch one run to its end, as server-sent events',
    description: 'From the first event that is kept. Ends after `done`; coming back then answers 204.',
    tags: ['tasks', 'events'],
    querystring: z.strictObject(streamQuery),
    response: { 200: eventStream, 204: z.null().describe('The run has ended'), ...streamProblems },
  };
  const config = { access: 'stream' } as const;

  app.get(
    '/v1/tasks/:id/events',
    { config, schema: { ...schema, params: z.strictObject({ id: run }) } },
    async (request, reply) => {
      const seen = await visibleRun(tasks, request.principal, request.params.id);
      await answerTaskStream(room, request, reply, seen);
      return reply;
    },
  );

  app.get(
    '/stream/:task/:id',
    {
      config,
      schema: {
        ...schema,
        summary: 'As /v1/tasks/{id}/events, with the name of its task',
        params: z.strictObject({ task: z.string().max(64), id: run }),
      },
    },
    async (request, reply) => {
      const { task, id } = request.params;
      const seen = await visibleRun(tasks, request.principal, id);
      if (seen.task !== task) throw new HubError('not-found', `run ${id} is not of task "${task.slice(0, 64)}"`);
      await answerTaskStream(room, request, reply, seen);
      return reply;
    },
  );

  for (const url of ['/api/v1/ai/jobs/:id/stream', '/api/v1/ai/jobs/:id/stream/'])
    app.get(
      url,
      {
        config,
        schema: { ...schema, summary: 'As /v1/tasks/{id}/events', params: z.strictObject({ id: run }) },
      },
      async (request, reply) => {
        const seen = await visibleRun(tasks, request.principal, request.params.id);
        await answerTaskStream(room, request, reply, seen);
        return reply;
      },
    );
}
