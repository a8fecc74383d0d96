// Readers of event streams on bare sockets: they look for the time in each event and for nothing else, so that a
// thousand of them fit in one process, and the same code reads server-sent events and socket.io's WebSocket.
import { connect, type Socket } from 'node:net';
import { createHistogram } from 'node:perf_hooks';
import { actor } from '../actor.ts';
import { inBatches, loadOf, machineUs, note } from '../load.ts';

const sockets: Socket[] = [];
const mark = Buffer.from('"t":');
const quote = 0x22;
const buffer = Buffer.allocUnsafe(1 << 20);
let histogram = createHistogram();
let begun = performance.now();

export const verbs = actor({
  /** Opens streams. `path` of a server-sent stream, or none for socket.io. A stalled reader reads the answer's head only. */
  async open({
    address,
    path,
    count,
    stalled = false,
  }: {
    address: string;
    path?: string;
    count: number;
    stalled?: boolean;
  }) {
    sockets.push(...(await inBatches(count, 50, () => reader(address, path, stalled))));
  },

  begin(): void {
    histogram = createHistogram();
    begun = performance.now();
  },

  end() {
    return loadOf(histogram, begun);
  },
});
export type WatchersVerbs = typeof verbs;

function reader(address: string, path: string | undefined, stalled: boolean): Promise<Socket> {
  const [host, port] = address.split(':');
  return new Promise((resolve, reject) => {
    let isOpen = false;
    let rest: Buffer | undefined;
    const onRead = (length: number): boolean => {
      if (isOpen) {
        rest = scan(
          rest === undefined ? buffer.subarray(0, length) : Buffer.concat([rest, buffer.subarray(0, length)]),
        );
        return true;
      }
      const head = buffer.toString('latin1', 0, length);
      if (!/^HTTP\/1.1 (200|101)/.test(head)) reject(new Error(`${address}${path}: ${head.slice(0, 200)}`));
      isOpen = true;
      // What is replayed may come along with the head.
      const end = head.indexOf('\r\n\r\n') + 4;
      if (end > 3 && end < length) rest = scan(buffer.subarray(end, length));
      if (path === undefined) socket.write(textFrame('40')); // socket.io: joins its main namespace
      resolve(socket);
      return !stalled;
    };
    const socket = connect({
      host,
      port: Number(port),
      onread: { buffer, callback: onRead },
    });
    socket.once('error', reject);
    socket.write(
      path === undefined
        ? `GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: ${address}\r\nUpgrade: websocket\r\n` +
            'Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
        : `GET ${path} HTTP/1.1\r\nHost: ${address}\r\nAccept: text/event-stream\r\n\r\n`,
    );
  });
}

/** Notes the age of every event; returns a copy of what may be the beginning of a mark. */
function scan(bytes: Buffer): Buffer | undefined {
  const now = machineUs();
  let done = 0;
  for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark, done)) {
    let time = 0;
    let next = at + mark.length;
    for (; next < bytes.length; next++) {
      const digit = bytes[next]! - 0x30;
      if (digit < 0 || digit > 9) break;
      time = time * 10 + digit;
    }
    if (next === bytes.length) return Buffer.from(bytes.subarray(at));
    note(histogram, (now - time) / 1000);
    done = next;
  }
  const tail = bytes.subarray(Math.max(done, bytes.length - mark.length + 1));
  return tail.includes(quote) ? Buffer.from(tail) : undefined;
}

function textFrame(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);
}
