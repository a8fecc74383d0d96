import { constants, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { type Server, type ServerInterceptor, status } from '@grpc/grpc-js';

/** The longest deadline that is kept; a call that asks for more gets this. grpc-js counts 32 bits of ms: 24 days. */
const maxTimeoutMs = 2 ** 31 - 1;
const unitMs: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

/**
 * Looks at the headers of each call before grpc-js does, which takes any digits anywhere for a `grpc-timeout` and lets large
 * ones overflow into the past: what is no timeout is refused with `invalid-argument`, what is too long is shortened. What
 * `take` takes does not come to grpc-js.
 */
export function guardHeaders(
  server: Server,
  take: (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean,
): void {
  for (const http2 of http2ServersOf(server)) {
    const [serve, ...others] = http2.listeners('stream');
    if (serve === undefined || others.length > 0) throw moved('listener of streams');
    http2.removeAllListeners('stream');
    http2.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...more: unknown[]) => {
      if (take(stream, headers)) return;
      const asked = headers['grpc-timeout'];
      if (asked !== undefined) {
        const timeoutMs = timeoutOf(String(asked));
        if (timeoutMs === undefined) {
          refuse(
            stream,
            `grpc-timeout ${JSON.stringify(String(asked).slice(0, 32))} is not valid: 1 to 8 digits and a unit, HMSmun`,
          );
          return;
        }
        if (timeoutMs > maxTimeoutMs) headers['grpc-timeout'] = `${Math.floor(maxTimeoutMs / unitMs.H!)}H`;
      }
      serve.call(http2, stream, headers, ...more);
    });
  }
}

function timeoutOf(text: string): number | undefined {
  const [, digits, unit] = /^(\d{1,8})([HMSmun])$/.exec(text) ?? [];
  return digits === undefined ? undefined : Number(digits) * unitMs[unit!]!;
}

function refuse(stream: ServerHttp2Stream, message: string): void {
  stream.on('error', () => undefined); // the caller may have left
  stream.respond(
    {
      [constants.HTTP2_HEADER_STATUS]: 200,
      [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc',
      'grpc-status': status.INVALID_ARGUMENT,
      'grpc-message': encodeURI(message),
    },
    { endStream: true },
  );
  // What it sends all the same is not wanted.
  stream.close(constants.NGHTTP2_NO_ERROR);
}

/** A message of grpc-js as it came, with its flag and length in front. */
type Decompress = (this: object, message: Buffer, encoding: string) => Buffer | Promise<Buffer>;

/**
 * Refuses messages whose flag says what the headers did not agree on, which grpc-js takes for plain ones, and calls that end
 * within a message, of which it says nothing.
 */
export const guardMessages: ServerInterceptor = (_, call) => {
  const guarded = call as ReturnType<ServerInterceptor>;
  for (const method of ['decompressMessage', 'handleEndEvent'])
    if (typeof Reflect.get(call, method) !== 'function') throw moved(method);
  Reflect.set(call, 'decompressMessage', decompress);
  const decoder = Reflect.get(call, 'decoder') as { readonly readState?: number } | undefined;
  if (typeof decoder?.readState !== 'number') throw moved('decoder');
  Reflect.set(call, 'handleEndEvent', function handleEndEvent(this: object) {
    if (decoder.readState !== betweenMessages)
      guarded.sendStatus({ code: status.INVALID_ARGUMENT, details: 'the stream ended within a message' });
    else (Reflect.get(Object.getPrototypeOf(this), 'handleEndEvent') as () => void).call(this);
  });
  return guarded;
};

/** State of grpc-js's decoder. */
const betweenMessages = 0;

const decompress: Decompress = function (message, encoding) {
  const flag = message[0]!;
  if (flag === 0 || (flag === 1 && encoding !== 'identity'))
    return (Reflect.get(Object.getPrototypeOf(this), 'decompressMessage') as Decompress).call(this, message, encoding);
  const details = `a message has the flag ${flag}, but no encoding was agreed on`;
  return Promise.reject({ code: status.INVALID_ARGUMENT, details });
};

function http2ServersOf(server: Server): Http2Server[] {
  const all: unknown = Reflect.get(server, 'http2Servers');
  if (!(all instanceof Map) || all.size === 0) throw moved('http2Servers');
  return [...all.keys()];
}

const moved = (what: string): Error => new Error(`this version of @grpc/grpc-js keeps its ${what} in another place`);
