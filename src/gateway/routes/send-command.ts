import { z } from 'zod';
import { requireScope } from '../../auth/access.ts';
import { letGo } from '../../commands/follow.ts';
import { errorOf, isDelivered } from '../../commands/outcome.ts';
import { planSend, standardPlan, toCommand } from '../../commands/send-options.ts';
import { HubError } from '../../errors.ts';
import type { Command, CommandUpdate, Payload } from '../../protocol/command.ts';
import { isTerminalUpdate } from '../../protocol/command.ts';
import type { PayloadJson } from '../../schemas/payload-json.ts';
import { FieldError } from '../problem.ts';
import type { App, Room } from '../room.ts';
import { acquireStreamLease } from '../sse/stream-lease.ts';
import { showUpdate, updateView } from '../views.ts';
import { answerCommandStream } from './command-stream.ts';
import { clientId, eventStream, streamProblems } from './words.ts';

// Milliseconds that a timer can wait, and that the wire can carry.
const duration = (least: number) =>
  z
    .int()
    .min(least)
    .max(2 ** 31 - 1)
    .optional();
const key = z
  .string()
  .regex(/^[\x21-\x7e]{1,128}$/, '1 to 128 visible ASCII characters')
  .optional();

const commandBody = z.strictObject({
  method: z.string().max(256).optional().describe('A method of the device: `start`, `PumpService/Start`'),
  type: z.string().max(256).optional().describe('In the place of `method`: full name of the message type'),
  payload: z.unknown().optional().describe('The message as JSON'),
  payloadBase64: z.string().optional().describe('In the place of `payload`: the encoded message; needs `type`'),
  whenOffline: z
    .enum(['fail', 'queue'])
    .optional()
    .describe('`fail` (default): needs a stream now. `queue`: stored, and sent when the client comes'),
  timeoutMs: duration(1).describe("A live command's whole life. Default: 30000"),
  waitForConnectMs: duration(0).describe('How long a live command waits for its client. Default: 0'),
  ttlMs: z
    .int()
    .min(1)
    .max(366 * 24 * 3600_000)
    .optional()
    .describe('How long a queued command may wait to be sent. Default: 24 hours'),
  finishWithinMs: duration(0).describe('How long a queued command may run. Default: 0, no limit'),
  idempotencyKey: key.describe('Two sends with one key are one command; also as header Idempotency-Key'),
  idempotent: z.boolean().optional().describe('True when running it twice does no harm'),
  orderingKey: key.describe('Commands with one key run one after the other'),
  coalesceKey: key.describe('A newer queued command with the same key replaces those not sent yet'),
  wait: z
    .enum(['accepted', 'delivered', 'result'])
    .optional()
    .describe('When to answer. Default: `result` for live commands, `accepted` for queued ones'),
});
type CommandBody = z.infer<typeof commandBody>;

export function addSendRoute(app: App, room: Room): void {
  app.post(
    '/v1/clients/:id/commands',
    {
      schema: {
        summary: 'Send a command',
        description: 'Answers JSON, or with `Accept: text/event-stream` the updates as server-sent events.',
        tags: ['commands'],
        params: z.strictObject({ id: clientId }),
        body: commandBody,
        response: {
          200: { ...eventStream, content: { 'application/json': { schema: updateView }, ...eventStream.content } },
          202: updateView.describe('Accepted, and not ended yet'),
          ...streamProblems,
        },
      },
    },
    async (request, reply) => {
      const { principal, body } = request;
      requireScope(principal, 'commands:send');
      const command = commandOf(principal.tenant, request.params.id, body, request.headers, room.types);
      const accept = request.headers.accept ?? '';
      if (accept.includes('text/event-stream')) {
        // Before the command is on its way: what is refused has done nothing.
        const lease = await acquireStreamLease(room, principal);
        try {
          const accepted = await follow(room, command, () => true, neverLeaves);
          await answerCommandStream(room, request, reply, accepted.commandId, { isNew: true, lease });
        } catch (error) {
          await lease?.release();
          throw error;
        }
        return reply;
      }
      const wait = body.wait ?? (command.whenOffline === 'queue' ? 'accepted' : 'result');
      const isEnough = wait === 'accepted' ? () => true : wait === 'delivered' ? isDelivered : isTerminalUpdate;
      const left = new Promise<void>((resolve) => reply.raw.once('close', resolve));
      const update = await follow(room, command, isEnough, left);
      if (wait !== 'accepted' && isTerminalUpdate(update) && update.state !== 'succeeded') {
        if (wait === 'result' || !isDelivered(update)) throw errorOf(update);
      }
      reply.header('location', `/v1/commands/${update.commandId}`);
      reply.header('cache-control', 'no-store');
      reply.code(isTerminalUpdate(update) || (wait === 'delivered' && isDelivered(update)) ? 200 : 202);
      return reply.send(showUpdate(update, room.types));
    },
  );
}

/**
 * Sends, and resolves to the first update that is enough; or to the newest one, when the caller has left or the
 * gateway has waited long enough. None of these cancels the command.
 */
async function follow(
  { hub, clock, limits }: Room,
  command: Command,
  isEnough: (update: CommandUpdate) => boolean,
  left: Promise<void>,
): Promise<CommandUpdate> {
  const iterator = hub.send(command)[Symbol.asyncIterator]();
  let stopTimer: () => void = () => undefined;
  const overdue = new Promise<void>((resolve) => {
    stopTimer = clock.after(limits.maxWaitMs, resolve);
  });
  try {
    let newest: CommandUpdate | undefined;
    for (;;) {
      const pending = iterator.next();
      // When another wins the race, what becomes of this step is nobody's concern any more.
      pending.catch(() => undefined);
      const step = await Promise.race([pending, overdue, left]);
      if (step === undefined) {
        if (newest !== undefined) return newest;
        throw new HubError('unavailable', `command ${command.id} was not accepted within ${limits.maxWaitMs} ms`);
      }
      if (step.done === true) {
        if (newest !== undefined && isTerminalUpdate(newest)) return newest;
        throw new HubError('unavailable', `the hub lost sight of command ${command.id}`, { commandId: command.id });
      }
      newest = step.value;
      if (isEnough(newest) || isTerminalUpdate(newest)) return newest;
    }
  } finally {
    stopTimer();
    letGo(iterator);
  }
}

const neverLeaves = new Promise<void>(() => undefined);

function commandOf(
  tenant: string,
  id: string,
  body: CommandBody,
  headers: Record<string, string | string[] | undefined>,
  types: PayloadJson | undefined,
): Command {
  const { method, type, payload, payloadBase64, wait, ...options } = body;
  const header = headers['idempotency-key'];
  if (typeof header === 'string') {
    if (options.idempotencyKey !== undefined && options.idempotencyKey !== header)
      throw new FieldError('idempotencyKey', 'the header Idempotency-Key and the field idempotencyKey differ');
    if (!key.safeParse(header).success)
      throw new FieldError('Idempotency-Key', 'Idempotency-Key has to be 1 to 128 visible ASCII characters');
    options.idempotencyKey = header;
  }
  if (options.coalesceKey !== undefined && options.whenOffline !== 'queue')
    throw new FieldError('coalesceKey', "coalesceKey is for queued commands (whenOffline: 'queue')");
  const { traceparent } = headers;
  const trace = typeof traceparent === 'string' && /^[\x21-\x7e]{1,128}$/.test(traceparent) ? traceparent : undefined;
  const plan = planSend(standardPlan, { ...options, traceparent: trace });
  return toCommand(tenant, id, payloadOf({ method, type, payload, payloadBase64 }, types), plan);
}

function payloadOf(
  { method, type, payload, payloadBase64 }: Pick<CommandBody, 'method' | 'type' | 'payload' | 'payloadBase64'>,
  types: PayloadJson | undefined,
): Payload {
  if ((method === undefined) === (type === undefined))
    throw new FieldError('method', 'a command needs either method or type');
  if (payloadBase64 !== undefined) {
    if (payload !== undefined) throw new FieldError('payload', 'a command has either payload or payloadBase64');
    const name = type ?? method!;
    if (type === undefined && !name.includes('/'))
      throw new FieldError('type', 'payloadBase64 needs type, the full name of the message or method');
    const value = Buffer.from(payloadBase64, 'base64');
    // Buffer.from stops at what it cannot read; a good text is the one that comes back.
    if (value.toString('base64').replace(/=+$/, '') !== payloadBase64.replace(/=+$/, ''))
      throw new FieldError('payloadBase64', 'payloadBase64 is not base64');
    return { type: name, value };
  }
  const hint = 'send the bytes as payloadBase64 with type, or start the hub with --proto to make the type known';
  if (types === undefined)
    throw new FieldError(
      type === undefined ? 'method' : 'type',
      `"${method ?? type}" is not known here, as this gateway knows no message types: ${hint}`,
    );
  try {
    return types.encode({ method, type, json: payload });
  } catch (error) {
    if (!(error instanceof HubError) || error.code !== 'invalid-argument') throw error;
    const isUnknown = /^no (method|message type) /.test(error.message);
    const field = isUnknown ? (type === undefined ? 'method' : 'type') : 'payload';
    throw new FieldError(field, isUnknown ? `${error.message}; ${hint}` : error.message, { cause: error });
  }
}
