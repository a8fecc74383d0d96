import type { FastifyReply, FastifyRequest } from 'fastify';
import type { LogEvent } from '../../events/event-log.ts';
import type { Lease } from '../../leases/index.ts';
import { RequestError } from '../problem.ts';
import type { Room } from '../room.ts';
import { httpWire, type Wire } from './sink.ts';
import { streamHeaders } from './stream-headers.ts';
import { acquireStreamLease } from './stream-lease.ts';
import type { PreparedStream } from './streams.ts';

export interface StreamAnswer {
  readonly keys: readonly string[];
  /** Default: as the query says, else `now`. */
  readonly from?: 'now' | 'start';
  readonly isLast?: (event: LogEvent) => boolean;
  readonly idleLimitMs?: number;
  /** Asked when the browser goes on from somewhere: true answers 204, which tells EventSource to stop. */
  readonly isEnded?: (stream: PreparedStream) => Promise<boolean>;
  /** A frame to end with at once, when nothing will come through the log. */
  readonly closing?: Buffer | undefined;
  /** Ignores where the request wants to go on: for the answer to a POST. */
  readonly isNew?: boolean;
  /** The caller's place, where it was taken before. Released with the stream, and where there will be none. */
  readonly lease?: Lease | undefined;
  readonly headers?: Record<string, string>;
  /** What it is sent over. Default: the answer to the request. */
  readonly wire?: Wire;
}

/** The parts of a request that matter here: whatever schema its route has. */
export type AskedForStream = Pick<FastifyRequest, 'method' | 'headers' | 'raw' | 'principal'> & {
  readonly query: unknown;
};

/** The same of the reply. */
export interface StreamReply {
  readonly raw: FastifyReply['raw'];
  hijack(): unknown;
  /** What hooks have set so far: the answer carries it too. */
  getHeaders(): Record<string, number | string | string[] | undefined>;
}

/** Answers a request with an event stream. HEAD gets the headers and takes no watcher. */
export async function answerStream(
  room: Room,
  request: AskedForStream,
  reply: StreamReply,
  answer: StreamAnswer,
): Promise<void> {
  const headers = { ...(reply.getHeaders() as Record<string, string>), ...answer.headers };
  const finish = (status: number, more: Record<string, string>): void => {
    reply.hijack();
    for (const [name, value] of Object.entries({ ...headers, ...more })) reply.raw.setHeader(name, value);
    reply.raw.statusCode = status;
    reply.raw.end();
  };
  if (request.method === 'HEAD') return finish(200, streamHeaders);
  // A request that was sent behind another on one connection has no socket of its own yet.
  if (request.raw.httpVersionMajor === 1 && reply.raw.socket === null)
    throw new RequestError('malformed-request', 'an event stream cannot be pipelined behind another request');
  const query = request.query as { from?: 'now' | 'start'; last_event_id?: string };
  const cursor = answer.isNew ? undefined : cursorOfRequest(request, query.last_event_id);
  const { principal } = request;
  const stream = await room.streams.prepare({
    subject: principal.subject,
    expiresAtMs: principal.expiresAtMs,
    keys: answer.keys,
    cursor,
    fromStart: (query.from ?? answer.from ?? 'now') === 'start',
    isLast: answer.isLast,
    idleLimitMs: answer.idleLimitMs,
    closing: answer.closing,
  });
  let { lease } = answer;
  try {
    if (cursor !== undefined && (await answer.isEnded?.(stream)) === true) {
      stream.release();
      return finish(204, { 'cache-control': 'no-store' });
    }
    lease ??= await acquireStreamLease(room, principal);
    reply.hijack();
    stream.start(answer.wire ?? httpWire(reply.raw, { ...headers, ...streamHeaders }), lease);
  } catch (error) {
    stream.release();
    await lease?.release();
    throw error;
  }
}

// The header is what the browser itself remembers, so it is newer than the URL that was made at the beginning.
function cursorOfRequest(request: AskedForStream, fromQuery: string | undefined): string | undefined {
  const header = request.headers['last-event-id'];
  const cursor = typeof header === 'string' && header !== '' ? header : fromQuery;
  return cursor === '' ? undefined : cursor;
}
