import { z } from 'zod';
import { hasScope, requireScope } from '../../auth/access.ts';
import type { Principal } from '../../auth/principal.ts';
import { HubError } from '../../errors.ts';
import { channelKey } from '../../events/channels.ts';
import { isTerminalRun, runChannel, type TaskHandle } from '../../tasks/index.ts';
import { historyFields } from '../history.ts';
import type { GatewayTasks } from '../options.ts';
import { FieldError } from '../problem.ts';
import type { App, Room } from '../room.ts';
import { runView, showRun } from '../run-view.ts';
import { acquireStreamLease } from '../sse/stream-lease.ts';
import { eventView } from './channels.ts';
import { requireOwnRun, visibleRun } from './run-access.ts';
import { answerTaskStream } from './task-stream.ts';
import { addTaskStreamRoutes } from './task-streams.ts';
import { commandId, eventStream, problems, streamProblems } from './words.ts';

const params = z.strictObject({ id: commandId.describe('The run') });
const day = 24 * 3600_000;

const triggerBody = z.strictObject({
  task: z.string().max(64).describe('Id of the task, as /v1/task-types lists them'),
  input: z.unknown().optional().describe('What the task asks for'),
  idempotencyKey: z.string().max(128).optional().describe('Two triggers with one key are one run; also as header'),
  delayMs: z
    .int()
    .min(0)
    .max(366 * day)
    .optional()
    .describe('Not before so many ms'),
  owner: z.string().max(128).optional().describe('Whose run it is. Default: the caller. Others: administrators only'),
  tags: z.array(z.string()).max(20).optional(),
  priority: z.int().min(-100).max(100).optional().describe('Higher ones run first. Default: 0'),
  wait: z.enum(['accepted', 'result']).optional().describe('When to answer. Default: `accepted`'),
});

/** Runs of tasks: to trigger, to look at, to cancel. Watching them: `task-streams.ts`. */
export function addTaskRoutes(app: App, room: Room, tasks: GatewayTasks): void {
  const { log } = room.options;

  app.get(
    '/v1/task-types',
    {
      schema: {
        summary: 'List the tasks that can be triggered',
        tags: ['tasks'],
        response: {
          200: z.object({ tasks: z.array(z.object({ id: z.string(), isolation: z.string() })) }),
          ...problems,
        },
      },
    },
    async ({ principal }) => {
      if (!hasScope(principal, 'tasks:read')) requireScope(principal, 'tasks:run');
      return { tasks: [...tasks.definitions.values()].map(({ id, isolation }) => ({ id, isolation })) };
    },
  );

  app.post(
    '/v1/tasks',
    {
      schema: {
        summary: 'Trigger a task',
        description:
          'Answers the run as JSON, or with `Accept: text/event-stream` its events. Leaving never cancels it.',
        tags: ['tasks'],
        body: triggerBody,
        response: {
          200: { ...eventStream, content: { 'application/json': { schema: runView }, ...eventStream.content } },
          202: runView.describe('Accepted, and not ended yet'),
          ...streamProblems,
        },
      },
    },
    async (request, reply) => {
      const { principal, body } = request;
      requireScope(principal, 'tasks:run');
      const trigger = () => triggerRun(tasks, principal, body, request.headers['idempotency-key']);
      if ((request.headers.accept ?? '').includes('text/event-stream')) {
        // Before the run is on its way: what is refused has done nothing.
        const lease = await acquireStreamLease(room, principal);
        try {
          const handle = await trigger();
          await answerTaskStream(room, request, reply, await handle.snapshot(), { isNew: true, lease });
        } catch (error) {
          await lease?.release();
          throw error;
        }
        return reply;
      }
      const handle = await trigger();
      if (body.wait === 'result') await ended(room, handle, reply.raw);
      const run = await handle.snapshot();
      reply.header('location', `/v1/tasks/${run.id}`).header('cache-control', 'no-store');
      return reply.code(isTerminalRun(run.state) ? 200 : 202).send(showRun(run));
    },
  );

  app.get(
    '/v1/tasks',
    {
      schema: {
        summary: 'List runs, newest first',
        description: "One's own; with `tasks:read` everybody's.",
        tags: ['tasks'],
        querystring: z.strictObject({
          task: z.string().max(64).optional(),
          state: runView.shape.state.optional(),
          owner: z.string().max(128).optional(),
          tag: z.string().max(64).optional(),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
        }),
        response: { 200: z.object({ runs: z.array(runView) }), ...problems },
      },
    },
    async ({ principal, query }) => {
      let { owner } = query;
      if (!hasScope(principal, 'tasks:read')) {
        requireScope(principal, 'tasks:run');
        if (owner !== undefined && owner !== principal.subject)
          throw new HubError('permission-denied', `runs of others need the scope tasks:read`);
        owner = principal.subject;
      }
      return { runs: (await tasks.list({ ...query, owner, tenant: principal.tenant })).map(showRun) };
    },
  );

  app.get(
    '/v1/tasks/:id',
    {
      schema: {
        summary: 'Get one run: its state, and its result once it has ended',
        tags: ['tasks'],
        params,
        response: { 200: runView, ...problems },
      },
    },
    async ({ principal, params: { id } }, reply) => {
      reply.header('cache-control', 'no-store');
      return showRun(await visibleRun(tasks, principal, id));
    },
  );

  app.get(
    '/v1/tasks/:id/output',
    {
      schema: {
        summary: 'Read what a run has told so far',
        description: '`next` goes on here as `after`, and at /v1/tasks/{id}/events as `last_event_id`.',
        tags: ['tasks'],
        params,
        querystring: z.strictObject({
          after: z.string().max(128).optional().describe('`next` of the page before; default: from the first event'),
          limit: z.coerce.number().int().min(1).max(1000).default(100),
        }),
        response: {
          200: z.object({
            state: runView.shape.state,
            attempt: z.number(),
            events: z.array(eventView),
            gap: z.unknown().optional().describe('Set when something before the first event is not kept any more'),
            next: z.string().describe('Cursor after this page'),
            atEnd: z.boolean(),
          }),
          ...problems,
        },
      },
    },
    async ({ principal, params: { id }, query }, reply) => {
      // The state first: an end that comes meanwhile is then in the events at the latest.
      const { state, epoch } = await visibleRun(tasks, principal, id);
      const key = channelKey(principal.tenant, runChannel(id));
      const fields = await historyFields(log, key, {
        after: query.after,
        limit: query.limit,
        jsonOf: (event) => event.json(),
      });
      reply.header('cache-control', 'no-store').type('application/json; charset=utf-8');
      return reply.send(`{"state":"${state}","attempt":${epoch},${fields}}` as never);
    },
  );

  app.post(
    '/v1/tasks/:id/cancel',
    {
      schema: {
        summary: 'Ask for a run to end',
        description: 'A waiting run has ended with the answer; the end of a running one is told by its `done`.',
        tags: ['tasks'],
        params,
        body: z.strictObject({ reason: z.string().max(256).optional() }).nullish(),
        response: { 200: runView, ...problems },
      },
    },
    async ({ principal, params: { id }, body }) => {
      requireOwnRun(principal, await visibleRun(tasks, principal, id));
      return showRun(await tasks.cancel(id, body?.reason, principal.tenant));
    },
  );

  addTaskStreamRoutes(app, room, tasks);
}

function triggerRun(
  tasks: GatewayTasks,
  principal: Principal,
  body: z.infer<typeof triggerBody>,
  header: string | string[] | undefined,
): Promise<TaskHandle> {
  const { task, input, wait: _, owner, ...options } = body;
  if (typeof header === 'string') {
    if (options.idempotencyKey !== undefined && options.idempotencyKey !== header)
      throw new FieldError('idempotencyKey', 'the header Idempotency-Key and the field idempotencyKey differ');
    options.idempotencyKey = header;
  }
  if (owner !== undefined && owner !== principal.subject && !principal.scopes.has('admin'))
    throw new HubError('permission-denied', `"${principal.subject}" may not start runs in the name of "${owner}"`);
  // Nobody is anonymous twice: such runs have no owner.
  const self = principal.subject === 'anonymous' ? undefined : principal.subject;
  return tasks.trigger(task, input as never, { ...options, owner: owner ?? self, tenant: principal.tenant });
}

/** Resolves when the run has ended, the caller has left, or the gateway has waited long enough. */
async function ended(
  { clock, limits }: Room,
  handle: TaskHandle,
  response: { once(event: 'close', run: () => void): unknown },
) {
  const stop = new AbortController();
  const letGo = clock.after(limits.maxWaitMs, () => stop.abort());
  response.once('close', () => stop.abort());
  try {
    // How it ended is told by the run itself.
    await handle.result({ signal: stop.signal }).catch(() => undefined);
  } finally {
    letGo();
  }
}
