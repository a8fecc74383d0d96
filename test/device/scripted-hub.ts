import { randomUUID } from 'node:crypto';
import { Metadata, Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { type DownBody, decodeUp, encodeDown, type UpBody, type UpFrame } from '../../src/protocol/frames.ts';
import type { DeviceCommand, Hello, Welcome } from '../../src/protocol/gen/signalbox/v1/device.ts';

type Call = ServerDuplexStream<Buffer, Buffer>;

/** One stream of a device, as a hub sees it; a test says what the hub does. */
export class ScriptedStream {
  readonly authorization: string | undefined;
  readonly frames: UpFrame[] = [];
  readonly #call: Call;
  #wake: () => void = () => undefined;
  #read = 0;
  #seq = 0;
  #received = 0;
  isOver = false;

  constructor(call: Call) {
    this.#call = call;
    this.authorization = call.metadata.get('authorization')[0]?.toString();
    call.sendMetadata(new Metadata());
    call.on('data', (bytes: Buffer) => {
      const frame = decodeUp(bytes);
      if (frame.seq > 0) this.#received = frame.seq;
      this.frames.push(frame);
      this.#wake();
    });
    const over = (): void => {
      this.isOver = true;
      this.#wake();
    };
    // A hub ends its side when the device has.
    call.on('end', () => {
      over();
      call.end();
    });
    call.on('cancelled', over).on('close', over).on('error', over);
  }

  /** The next frame; pongs and bare acknowledgements too. Fails when the stream is over. */
  async frame(): Promise<UpFrame> {
    for (;;) {
      const frame = this.frames[this.#read];
      if (frame) {
        this.#read++;
        return frame;
      }
      if (this.isOver) throw new Error('the stream is over');
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** The next frame with a body of this kind; others are passed over. */
  async next<K extends UpBody['$case']>(kind: K): Promise<Extract<UpBody, { $case: K }>['value'] & { seq: number }> {
    for (;;) {
      const { body, seq } = await this.frame();
      if (body?.$case === kind) return { ...(body.value as object), seq } as never;
    }
  }

  /** Resolves when the device has acknowledged everything up to `seq`. */
  async acknowledged(seq: number): Promise<void> {
    while (!this.frames.some(({ ack }) => ack >= seq)) await this.frame();
  }

  async over(): Promise<void> {
    while (!this.isOver)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
  }

  get received(): number {
    return this.#received;
  }

  send(body: DownBody | undefined, { seq = 0, ack = 0 } = {}): void {
    this.#call.write(encodeDown({ seq, ack, body }));
  }

  /** Sends a frame that the device has to acknowledge. Returns its number. */
  number(body: DownBody, seq = ++this.#seq): number {
    this.#seq = seq;
    this.send(body, { seq });
    return seq;
  }

  ack(seq = this.#received): void {
    this.send(undefined, { ack: seq });
  }

  /** Reads the hello and answers it. */
  async welcome(overrides: Partial<Welcome> = {}): Promise<Hello> {
    const hello = await this.next('hello');
    this.#seq = overrides.resumed ? (hello.resume?.lastSeq ?? 0) : 0;
    const value = welcomeOf({ session: randomUUID(), clientId: hello.clientId, ...overrides });
    this.send({ $case: 'welcome', value });
    return hello;
  }

  command(command: Partial<DeviceCommand> & { id: string }, seq?: number): number {
    return this.number({ $case: 'command', value: commandOf(command) }, seq);
  }

  cancel(commandId: string, reason = 'test'): number {
    return this.number({ $case: 'cancel', value: { commandId, reason } });
  }

  /** Ends the stream with a status. */
  fail(code: number, details = 'test'): void {
    this.#call.emit('error', { code, details });
  }

  end(): void {
    this.#call.end();
  }

  /** Stops and goes on reading what the device sends. */
  pause(): void {
    this.#call.pause();
  }

  resume(): void {
    this.#call.resume();
  }
}

export function welcomeOf(welcome: Partial<Welcome>): Welcome {
  return {
    session: 's1',
    epoch: 1,
    resumed: false,
    lastSeq: 0,
    heartbeatMs: 0,
    livenessMs: 0,
    maxFrameBytes: 1024 * 1024,
    node: 'test',
    clientId: 'pump-7',
    atMs: 0,
    ...welcome,
  };
}

export function commandOf(command: Partial<DeviceCommand> & { id: string }): DeviceCommand {
  return {
    payload: { type: 'test.Echo', value: new Uint8Array() },
    startWithinMs: 0,
    finishWithinMs: 0,
    idempotent: false,
    orderingKey: '',
    traceparent: '',
    ...command,
  };
}

/** A hub that does what the test says, over real gRPC. */
export class ScriptedHub {
  readonly server = new Server();
  readonly #streams: ScriptedStream[] = [];
  #taken = 0;
  #wake: () => void = () => undefined;
  address = '';
  /** Answers each stream before the test sees it: true means that the test does not get it. */
  intercept: (stream: ScriptedStream) => boolean = () => false;

  static async start(address = '127.0.0.1:0', credentials = ServerCredentials.createInsecure()): Promise<ScriptedHub> {
    const hub = new ScriptedHub();
    hub.server.register(
      '/signalbox.v1.DeviceService/Connect',
      (call: Call) => {
        const stream = new ScriptedStream(call);
        if (hub.intercept(stream)) return;
        hub.#streams.push(stream);
        hub.#wake();
      },
      (bytes: Buffer) => bytes,
      (bytes: Buffer) => bytes,
      'bidi',
    );
    const port = await new Promise<number>((resolve, reject) =>
      hub.server.bindAsync(address, credentials, (error, bound) => (error ? reject(error) : resolve(bound))),
    );
    hub.address = address.startsWith('unix:') ? address : `127.0.0.1:${port}`;
    return hub;
  }

  get streams(): number {
    return this.#streams.length;
  }

  /** The next stream that a device has opened. */
  async stream(): Promise<ScriptedStream> {
    while (this.#taken >= this.#streams.length)
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    return this.#streams[this.#taken++] as ScriptedStream;
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.server.forceShutdown();
    return Promise.resolve();
  }
}
