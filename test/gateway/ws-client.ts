import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { request as secureRequest } from 'node:https';
import type { Socket } from 'node:net';

export interface WsMessage {
  readonly id?: string;
  readonly event: string;
  readonly data?: unknown;
  readonly retryMs?: number;
}

/** A WebSocket client that shows everything: what refused it, pings, the close code, and the bare socket. */
export class WsClient {
  readonly socket: Socket;
  pings = 0;
  pongs: string[] = [];
  closeCode: number | undefined;
  #bytes: Buffer;
  readonly #messages: WsMessage[] = [];
  #wake: () => void = () => undefined;
  #hasEnded = false;

  /** Throws `Error` with the status of an answer that is no upgrade, and its body. */
  static open(url: string, headers: Record<string, string> = {}): Promise<WsClient> {
    const call = url.startsWith('https') ? secureRequest : request;
    const key = randomBytes(16).toString('base64');
    const handshake = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-key': key,
      'sec-websocket-version': '13',
    };
    return new Promise((resolve, reject) => {
      const asked = call(url, { headers: { ...handshake, ...headers }, rejectUnauthorized: false } as object);
      asked.once('upgrade', (_, socket, head) => resolve(new WsClient(socket as Socket, head)));
      asked.once('response', async (response) => {
        let body = '';
        for await (const chunk of response) body += chunk;
        reject(new Error(`${response.statusCode} ${body}`));
      });
      asked.once('error', reject);
      asked.end();
    });
  }

  constructor(socket: Socket, head: Buffer) {
    this.socket = socket;
    this.#bytes = head;
    socket.on('data', (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#parse();
    });
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.#hasEnded = true;
      this.#wake();
    });
    this.#parse();
  }

  /** The next message; undefined once the socket is closed. */
  async next(): Promise<WsMessage | undefined> {
    while (this.#messages.length === 0) {
      if (this.#hasEnded) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#messages.shift();
  }

  /** Sends a frame as a browser does, masked. */
  send(opcode: number, payload: Buffer): void {
    const mask = randomBytes(4);
    const masked = Buffer.from(payload.map((byte, i) => byte ^ mask[i & 3]!));
    const length =
      payload.length < 126 ? [0x80 | payload.length] : [0x80 | 126, payload.length >> 8, payload.length & 255];
    this.socket.write(Buffer.concat([Buffer.from([0x80 | opcode, ...length]), mask, masked]));
  }

  leave(): void {
    this.socket.destroy();
  }

  #parse(): void {
    for (;;) {
      const bytes = this.#bytes;
      if (bytes.length < 2) break;
      let [length, at] = [bytes[1]! & 127, 2];
      if (length === 126) {
        if (bytes.length < 4) break;
        [length, at] = [bytes.readUInt16BE(2), 4];
      } else if (length === 127) {
        if (bytes.length < 10) break;
        [length, at] = [Number(bytes.readBigUInt64BE(2)), 10];
      }
      if (bytes.length < at + length) break;
      const payload = bytes.subarray(at, at + length);
      const opcode = bytes[0]! & 15;
      if (opcode === 1) this.#messages.push(JSON.parse(payload.toString()));
      if (opcode === 9) this.pings++;
      if (opcode === 10) this.pongs.push(payload.toString());
      if (opcode === 8) this.closeCode = payload.length >= 2 ? payload.readUInt16BE() : 1005;
      this.#bytes = bytes.subarray(at + length);
    }
    this.#wake();
  }
}
