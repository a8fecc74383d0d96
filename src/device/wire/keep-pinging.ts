import type { Http2Session } from 'node:http2';
import type { Clock } from '../../flow/clock.ts';

/** An HTTP/2 ping goes out this often, and has to come back within the second, in ms: as grpc-js is set up elsewhere. */
const pingEveryMs = 20_000;
const pongWithinMs = 10_000;

/** Asks the other end of a connection for a sign of life, again and again, until the returned function is called. */
export function keepPinging(session: Http2Session, clock: Clock, broke: (error: Error) => void): () => void {
  let isOver = false;
  let letGo: () => void;
  const ping = (): void => {
    letGo = clock.after(pongWithinMs, () => broke(new Error(`no answer to a ping within ${pongWithinMs} ms`)));
    const isSent = session.ping(() => {
      if (isOver) return;
      letGo();
      letGo = clock.after(pingEveryMs, ping);
    });
    if (!isSent) broke(new Error('the connection takes no pings'));
  };
  letGo = clock.after(pingEveryMs, ping);
  return () => {
    isOver = true;
    letGo();
  };
}
