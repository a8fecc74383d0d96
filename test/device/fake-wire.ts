import type { Dial, HubWire, HubWireListener } from '../../src/device/wire/hub-wire.ts';
import type { HubError } from '../../src/errors.ts';
import { type DownBody, decodeUp, encodeDown, type UpBody, type UpFrame } from '../../src/protocol/frames.ts';
import {
  type DeviceCommand,
  type Goodbye,
  GoodbyeReason,
  type Welcome,
} from '../../src/protocol/gen/signalbox/v1/device.ts';
import { commandOf, welcomeOf } from './scripted-hub.ts';

/** One attempt of a device to connect, without a network; the test is the hub. */
export class FakeStream implements HubWire {
  readonly token: string | undefined;
  readonly frames: UpFrame[] = [];
  /** False: frames are taken, but the device is told that the wire is full. */
  isOpen = true;
  /** What becomes of the stream as a frame goes out. */
  onSend: (frame: UpFrame) => void = () => undefined;
  isEnded = false;
  isDestroyed = false;
  readonly #listener: HubWireListener;
  #seq = 0;

  constructor(listener: HubWireListener, token: string | undefined) {
    this.#listener = listener;
    this.token = token;
  }

  send(bytes: Buffer): boolean {
    const frame = decodeUp(bytes);
    this.frames.push(frame);
    this.onSend(frame);
    return this.isOpen;
  }

  end(): void {
    this.isEnded = true;
  }

  destroy(): void {
    this.isDestroyed = true;
  }

  /** Frames of one kind. */
  of<K extends UpBody['$case']>(kind: K): Extract<UpBody, { $case: K }>['value'][] {
    return this.frames.flatMap(({ body }) => (body?.$case === kind ? [body.value] : [])) as never;
  }

  /** Numbers and kinds of the numbered frames. */
  get numbered(): string[] {
    return this.frames.filter(({ seq }) => seq > 0).map(({ seq, body }) => `${seq} ${body?.$case}`);
  }

  tell(body: DownBody | undefined, { seq = 0, ack = 0 } = {}): void {
    this.#listener.onFrame(encodeDown({ seq, ack, body }));
  }

  welcome(overrides: Partial<Welcome> = {}): void {
    this.#seq = overrides.resumed ? (this.of('hello')[0]?.resume?.lastSeq ?? 0) : 0;
    this.tell({ $case: 'welcome', value: welcomeOf(overrides) });
  }

  number(body: DownBody): number {
    this.tell(body, { seq: ++this.#seq });
    return this.#seq;
  }

  command(command: Partial<DeviceCommand> & { id: string }): number {
    return this.number({ $case: 'command', value: commandOf(command) });
  }

  cancel(commandId: string): number {
    return this.number({ $case: 'cancel', value: { commandId, reason: 'test' } });
  }

  goodbye(goodbye: Partial<Goodbye> = {}): void {
    this.tell({
      $case: 'goodbye',
      value: {
        reason: GoodbyeReason.GOODBYE_REASON_DISCONNECTED,
        message: 'test',
        mayReconnect: true,
        retryAfterMs: 0,
        ...goodbye,
      },
    });
  }

  bytes(bytes: Buffer): void {
    this.#listener.onFrame(bytes);
  }

  writable(): void {
    this.isOpen = true;
    this.#listener.onWritable();
  }

  close(error?: HubError): void {
    if (!this.isDestroyed) this.#listener.onClosed(error);
  }
}

/** Where a device dials to; the streams in the order of the attempts. */
export function fakeNetwork(): { dial: Dial; streams: FakeStream[]; newest(): FakeStream } {
  const streams: FakeStream[] = [];
  return {
    streams,
    newest: () => streams.at(-1) as FakeStream,
    dial: (listener, token) => {
      const stream = new FakeStream(listener, token);
      streams.push(stream);
      return stream;
    },
  };
}
