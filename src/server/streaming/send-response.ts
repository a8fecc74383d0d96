import type { ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/**
 * Sends a Web `Response` as the answer of a plain Node server. Resolves once all is sent or the other end has left:
 * that is no error, and lets go of the stream.
 */
export async function sendResponse(to: ServerResponse | Http2ServerResponse, response: Response): Promise<void> {
  to.statusCode = response.status;
  for (const [name, value] of response.headers) to.setHeader(name, value);
  if (!response.body) {
    to.end();
    return;
  }
  if ('flushHeaders' in to) to.flushHeaders();
  const body = Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]);
  await pipeline(body, to as ServerResponse).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE' && error.code !== 'ERR_STREAM_UNABLE_TO_PIPE') throw error;
  });
}
