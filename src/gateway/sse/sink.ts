import type { ServerResponse } from 'node:http';
import { constants, type Http2ServerResponse, type ServerHttp2Stream } from 'node:http2';
import type { Batch } from './batch.ts';

/** Where the bytes of one stream go. */
export interface Sink {
  /** False: more is waiting than the wire likes; `onDrain` follows when all is gone. */
  write(batch: Batch): boolean;
  /** Bytes that were written and have not left the process. */
  readonly waiting: number;
  /** Ends the answer cleanly after what was written. */
  end(): void;
  /** Cuts the connection (or HTTP/2 stream) now. */
  destroy(): void;
}

export interface SinkEvents {
  onDrain(): void;
  /** Called once, however it ended. */
  onClosed(): void;
}

/** What a stream can be sent over. */
export interface Wire {
  /** Begins the answer. Undefined: the other end has left already. */
  open(events: SinkEvents): Sink | undefined;
}

/** The answer to a request, which begins with these headers. */
export function httpWire(
  response: ServerResponse | Http2ServerResponse,
  headers: Record<string, string | string[]>,
): Wire {
  return {
    open(events) {
      if (response.destroyed || response.socket === null) return undefined;
      sendHeaders(response, headers);
      return createSink(response, events);
    },
  };
}

function sendHeaders(response: ServerResponse | Http2ServerResponse, headers: Record<string, string | string[]>): void {
  // One by one, as what writeHead is given cannot be asked for afterwards.
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  if ('stream' in response) {
    response.writeHead(200);
  } else {
    response.writeHead(200);
    response.flushHeaders();
  }
}

/** The body of an answer whose headers are already sent. */
function createSink(response: ServerResponse | Http2ServerResponse, events: SinkEvents): Sink {
  return 'stream' in response ? http2Sink(response.stream, events) : http1Sink(response, events);
}

/**
 * Writes past `ServerResponse` to its socket: one write call for each batch instead of three, and a chunk header
 * that is shared with every other watcher. The response itself sent the headers and will send the last chunk.
 */
function http1Sink(response: ServerResponse, events: SinkEvents): Sink {
  const socket = response.socket!;
  const { chunkedEncoding } = response;
  socket.on('drain', events.onDrain);
  response.once('close', () => {
    socket.off('drain', events.onDrain);
    events.onClosed();
  });
  socket.setNoDelay(true);
  // Streams have a stall deadline of their own.
  socket.setTimeout(0);
  return {
    // A socket that the other end half-closed is not writable any more; its close follows.
    write: (batch) => !socket.writable || socket.write(chunkedEncoding ? batch.chunk : batch.bytes),
    get waiting() {
      return socket.writableLength;
    },
    end: () => void response.end(),
    destroy: () => void socket.destroy(),
  };
}

function http2Sink(stream: ServerHttp2Stream, events: SinkEvents): Sink {
  stream.setTimeout(0);
  stream.on('drain', events.onDrain);
  stream.once('close', events.onClosed);
  // A stream that the browser reset is also told by 'close'; without a listener its error would end the process.
  stream.on('error', () => stream.destroy());
  return {
    write: (batch) => !stream.writable || stream.write(batch.bytes),
    get waiting() {
      return stream.writableLength;
    },
    end: () => void stream.end(),
    destroy: () => stream.close(constants.NGHTTP2_CANCEL),
  };
}
