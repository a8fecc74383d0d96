import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

/** A road to Redis on which published messages get lost, and everything else passes. */
export class MuteProxy {
  /** Messages that were lost. */
  lost = 0;
  isMute = true;
  readonly #server;
  readonly #sockets = new Set<Socket>();

  private constructor(port: number) {
    this.#server = createServer((near) => {
      const far = connect(port, '127.0.0.1');
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          near.destroy();
          far.destroy();
        });
      }
      near.pipe(far);
      let held: Buffer = Buffer.alloc(0);
      far.on('data', (bytes: Buffer) => {
        held = Buffer.concat([held, bytes]);
        for (;;) {
          const end = endOfReply(held, 0);
          if (end < 0) return;
          const reply = held.subarray(0, end);
          held = held.subarray(end);
          if (this.isMute && /^[*>]3\r\n\$7\r\nmessage\r\n/.test(reply.subarray(0, 20).toString())) this.lost++;
          else near.write(reply);
        }
      });
    });
  }

  static async open(port: number): Promise<MuteProxy> {
    const proxy = new MuteProxy(port);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Where the reply that begins at `at` ends; -1 when it is not whole yet. */
function endOfReply(bytes: Buffer, at: number): number {
  const line = bytes.indexOf('\r\n', at);
  if (line < 0) return -1;
  const count = Number(bytes.subarray(at + 1, line).toString());
  const next = line + 2;
  switch (String.fromCharCode(bytes[at]!)) {
    case '$':
      if (count < 0) return next;
      return bytes.length >= next + count + 2 ? next + count + 2 : -1;
    case '*':
    case '>':
    case '~':
    case '%': {
      const parts = bytes[at] === '%'.charCodeAt(0) ? count * 2 : count;
      let end = next;
      for (let i = 0; i < parts && end >= 0; i++) end = endOfReply(bytes, end);
      return end;
    }
    default:
      return next;
  }
}
