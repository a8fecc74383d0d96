import { z } from 'zod';
import { checkChannelName } from '../../events/channels.ts';
import { checkClientId, checkCommandId } from '../../protocol/checks.ts';

/** What routes have in common, as zod schemas. */
export const clientId = z.string().superRefine(by(checkClientId)).describe('The client');
export const commandId = z.string().superRefine(by(checkCommandId)).describe('The command');
export const channel = z.string().superRefine(by(checkChannelName)).describe('`client.<id>`, `command.<id>`, `fleet`');

export const flag = z.enum(['true', 'false']).transform((word) => word === 'true');

/** Where an event stream begins. */
export const streamQuery = {
  from: z
    .enum(['now', 'start'])
    .optional()
    .describe('Without a last event id: only what happens from now on, or first all that is still kept'),
  last_event_id: z.string().optional().describe('As the header Last-Event-ID, which wins'),
  ticket: z.string().max(256).optional().describe('A one-use ticket of POST /v1/tickets, in the place of a token'),
};

export const problemView = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number(),
    detail: z.string().describe('A sentence that names the value at fault'),
    code: z.string().describe('A stable word to branch on'),
    field: z.string().optional().describe('The field of the request that is at fault'),
    commandId: z.string().optional(),
    deviceCode: z.string().optional().describe('The word that the device gave'),
    retryAfterMs: z.number().optional(),
  })
  .describe('RFC 9457 problem details');

const problemContent = {
  description: 'What is wrong',
  content: { 'application/problem+json': { schema: problemView } },
};

/** The error answers that every route can give. */
export const problems = { '4xx': problemContent, '5xx': problemContent };

/** The same of routes that answer with an event stream. */
export const streamProblems = {
  429: {
    ...problemContent,
    description:
      'All event streams that the caller may have are open (`stream-limit-exceeded`), or all of the gateway. `Retry-After` tells when a place is free at the latest, unless its holder stays',
  },
  ...problems,
};

/** An answer that is an event stream. */
export const eventStream = {
  description: 'Server-sent events; `data` is one line of JSON: `{channel, epoch, seq, type, at, data}`',
  content: { 'text/event-stream': { schema: z.string() } },
};

function by(check: (value: string) => void) {
  return (value: string, context: z.RefinementCtx<string>): void => {
    try {
      check(value);
    } catch (error) {
      context.addIssue({ code: 'custom', message: (error as Error).message });
    }
  };
}
