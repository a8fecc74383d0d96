import { z } from 'zod';
import type { Run } from '../tasks/index.ts';

/** A run as the gateway shows it; also what `/openapi.json` says of it. */
export const runView = z.object({
  id: z.string(),
  task: z.string().describe('Id of the task'),
  state: z.enum(['queued', 'running', 'succeeded', 'failed', 'cancelled']).describe('The last three are terminal'),
  owner: z.string().optional(),
  tags: z.array(z.string()),
  priority: z.number(),
  attempt: z.number().describe('Attempts so far; 0: not started yet'),
  input: z.unknown(),
  result: z.unknown().optional(),
  error: z
    .object({ code: z.string(), message: z.string() })
    .optional()
    .describe('Why it failed, or of the attempt before'),
  cancelReason: z.string().optional().describe('It was asked to stop'),
  createdAt: z.string(),
  dueAt: z.string().describe('When it starts at the earliest'),
  startedAt: z.string().optional(),
  updatedAt: z.string(),
  completedAt: z.string().optional(),
});

export function showRun(run: Run): z.infer<typeof runView> {
  const { id, task, state, owner, tags, priority, epoch, input, result, error, cancelReason } = run;
  return {
    id,
    task,
    state,
    owner,
    tags: [...tags],
    priority,
    attempt: epoch,
    input: JSON.parse(input),
    ...(result !== undefined && { result: JSON.parse(result) }),
    error,
    cancelReason,
    createdAt: iso(run.createdAtMs),
    dueAt: iso(run.dueAtMs),
    ...(run.startedAtMs !== undefined && { startedAt: iso(run.startedAtMs) }),
    updatedAt: iso(run.updatedAtMs),
    ...(run.endedAtMs !== undefined && { completedAt: iso(run.endedAtMs) }),
  };
}

const iso = (unixMs: number): string => new Date(unixMs).toISOString();
