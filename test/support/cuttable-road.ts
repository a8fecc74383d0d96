import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** A TCP road to an address that can be cut and restored on the same port, and led to another address. */
export class CuttableRoad {
  target: string;
  readonly #sockets = new Set<Socket>();
  #server: Server | undefined;
  #port = 0;
  /** Connections that were ever taken. */
  taken = 0;

  private constructor(target: string) {
    this.target = target;
  }

  static async to(target: string): Promise<CuttableRoad> {
    const road = new CuttableRoad(target);
    await road.restore();
    return road;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** Breaks every connection; new ones are still taken. */
  break(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Breaks every connection and takes no new one. */
  async cut(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    const closed = once(server, 'close');
    server.close();
    this.break();
    await closed;
  }

  async restore(): Promise<void> {
    this.#server = createServer((near) => {
      this.taken++;
      const [host, port] = this.target.split(':');
      const far = connect(Number(port), host);
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(socket);
        socket.on('error', () => other.destroy());
        socket.on('close', () => {
          this.#sockets.delete(socket);
          other.destroy();
        });
        socket.pipe(other);
      }
    });
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  close(): Promise<void> {
    return this.cut();
  }
}
