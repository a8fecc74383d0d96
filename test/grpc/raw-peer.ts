import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

/** A frame of HTTP/2, by hand. Types: 0 data, 1 headers, 3 reset, 4 settings, 6 ping, 9 continuation. */
export function frame(type: number, flags: number, stream: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(9);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header[4] = flags;
  header.writeUInt32BE(stream, 5);
  return Buffer.concat([header, payload]);
}

/** A header field without an index. */
export const literal = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.from([0, name.length]), Buffer.from(name), Buffer.from([value.length]), Buffer.from(value)]);

/** The headers of a call. */
export const callHeaders = (path: string): Buffer =>
  Buffer.concat([
    literal(':method', 'POST'),
    literal(':scheme', 'http'),
    literal(':path', path),
    literal(':authority', 'x'),
    literal('content-type', 'application/grpc'),
  ]);

/** A peer that says what no library would say. */
export class RawPeer {
  readonly socket: Socket;
  #heard = Buffer.alloc(0);
  #wake = (): void => undefined;
  isClosed = false;

  private constructor(address: string) {
    const [host, port] = address.split(':');
    this.socket = connect(Number(port), host);
    this.socket.on('error', () => undefined); // it is reset, as it should be
    this.socket.on('data', (chunk) => {
      this.#heard = Buffer.concat([this.#heard, chunk as Buffer]);
      this.#wake();
    });
    this.socket.once('end', () => this.socket.end());
    this.socket.once('close', () => {
      this.isClosed = true;
      this.#wake();
    });
  }

  /** Connects; says nothing yet. */
  static async dial(address: string): Promise<RawPeer> {
    const peer = new RawPeer(address);
    await once(peer.socket, 'connect');
    return peer;
  }

  say(...what: (Buffer | string)[]): void {
    for (const each of what) this.socket.write(each);
  }

  /** The preface and settings of HTTP/2, and what follows. */
  begin(...what: Buffer[]): void {
    this.say(Buffer.concat([preface, frame(4, 0, 0), ...what]));
  }

  /** Begins, and says the next again and again, reading nothing, until the server has had enough (400 times at most). */
  async flood(next: () => Buffer, ...first: Buffer[]): Promise<void> {
    this.begin(...first);
    this.socket.pause();
    for (let i = 0; i < 400 && !this.socket.destroyed; i++) {
      this.socket.write(next());
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.socket.resume();
  }

  /** Waits until so much was said to it, or its connection is closed. */
  async until(isEnough: () => boolean): Promise<void> {
    while (!isEnough() && !this.isClosed) await new Promise<void>((resolve) => (this.#wake = resolve));
  }

  /** All that was said to it, as text. */
  get text(): string {
    return this.#heard.toString('latin1');
  }

  /** What was said to it in frames of HTTP/2, but for settings, windows and data. */
  get said(): string[] {
    const said: string[] = [];
    const heard = this.#heard;
    for (let at = 0; at + 9 <= heard.length; at += 9 + heard.readUIntBE(at, 3)) {
      const payload = heard.subarray(at + 9, at + 9 + heard.readUIntBE(at, 3));
      const stream = heard.readUInt32BE(at + 5) & 0x7fff_ffff;
      if (heard[at + 3] === 1) said.push(`headers ${stream}`);
      else if (heard[at + 3] === 3) said.push(`reset ${stream} with ${payload.readUInt32BE(0)}`);
      else if (heard[at + 3] === 7) said.push(`goaway ${payload.readUInt32BE(4)} ${payload.subarray(8)}`.trim());
    }
    return said;
  }
}
