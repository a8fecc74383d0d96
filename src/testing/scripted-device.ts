import { randomUUID } from 'node:crypto';
import type { DeviceIdentity, DeviceStream, DeviceStreamListener } from '../hub/device-stream.ts';
import type { Payload, TerminalState } from '../protocol/command.ts';
import { payloadToProto, stateToProto } from '../protocol/convert.ts';
import {
  type DownFrame,
  decodeDown,
  decodeUp,
  encodeDown,
  encodeUp,
  type UpBody,
  type UpFrame,
} from '../protocol/frames.ts';
import type { DeviceCommand, Hello, Welcome } from '../protocol/gen/signalbox/v1/device.ts';

/** Where a scripted device connects to: a hub. */
export interface StreamAcceptor {
  accept(stream: DeviceStream, identity: DeviceIdentity): DeviceStreamListener;
}

/** A device that does exactly what a test tells it, frame by frame, over a stream in memory. Frames pass the real codec. */
export class ScriptedDevice {
  readonly #listener: DeviceStreamListener;
  readonly #frames: DownFrame[] = [];
  readonly #waiting = new Set<() => void>();
  #seq = 0;
  #received = 0;
  #isClosed = false;
  #isWritable = true;
  #wasReset = false;

  constructor(hub: StreamAcceptor, identity: DeviceIdentity = { tenant: 'default' }) {
    const stream: DeviceStream = {
      peer: 'memory',
      send: (frame) => {
        if (this.#isClosed) return false;
        this.#frames.push(decodeDown(encodeDown(frame)));
        if (frame.seq > 0) this.#received = frame.seq;
        this.#wake();
        return this.#isWritable;
      },
      close: () => this.#end(),
      reset: () => {
        this.#wasReset = true;
        this.#end();
      },
    };
    this.#listener = hub.accept(stream, identity);
  }

  /** Everything that the hub has sent, oldest first. */
  get frames(): readonly DownFrame[] {
    return this.#frames;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get wasReset(): boolean {
    return this.#wasReset;
  }

  /** Highest number received from the hub. */
  get received(): number {
    return this.#received;
  }

  /** Numbers up to here were given to frames of this device. A resumed session goes on from them. */
  get sent(): number {
    return this.#seq;
  }

  /** The commands received, oldest first. */
  get commands(): DeviceCommand[] {
    return this.#frames.flatMap(({ body }) => (body?.$case === 'command' ? [body.value] : []));
  }

  /** Says hello and resolves to the welcome; rejects with the goodbye's message. */
  async hello(hello: Partial<Hello> = {}): Promise<Welcome> {
    const bootId = hello.bootId ?? randomUUID();
    this.send(
      {
        $case: 'hello',
        value: {
          clientId: 'pump-7',
          journalId: bootId,
          protocol: 1,
          labels: {},
          resume: undefined,
          inFlight: [],
          window: 0,
          agent: 'scripted',
          ...hello,
          bootId,
        },
      },
      { seq: 0, ack: 0 },
    );
    const { body } = await this.next((frame) => frame.body?.$case === 'welcome' || frame.body?.$case === 'goodbye');
    if (body?.$case === 'goodbye') throw new Error(body.value.message);
    if (body?.$case !== 'welcome') throw new Error('no welcome');
    if (body.value.resumed && hello.resume) {
      this.#received = Math.max(this.#received, hello.resume.lastSeq);
      this.#seq = body.value.lastSeq;
    }
    return body.value;
  }

  /** Sends a frame: numbered where its kind is, acknowledging all that was received, unless told otherwise. */
  send(body: UpBody | undefined, { seq, ack = this.#received }: { seq?: number; ack?: number } = {}): void {
    const isNumbered = body !== undefined && ['started', 'progress', 'result', 'event'].includes(body.$case);
    this.raw({ seq: seq ?? (isNumbered ? ++this.#seq : 0), ack, body });
  }

  raw(frame: UpFrame): void {
    if (!this.#isClosed) this.#listener.onFrame(decodeUp(encodeUp(frame)));
  }

  malformed(message = 'garbage'): void {
    this.#listener.onMalformed(new Error(message));
  }

  acknowledge(): void {
    this.send(undefined);
  }

  succeed(commandId: string, payload: Payload = { type: 'test.Done', value: new Uint8Array([1]) }): void {
    const state = stateToProto('succeeded');
    this.send({ $case: 'result', value: { commandId, state, payload: payloadToProto(payload), error: undefined } });
  }

  end(commandId: string, state: Exclude<TerminalState, 'succeeded'>, code = 'test', message = 'as scripted'): void {
    this.send({
      $case: 'result',
      value: { commandId, state: stateToProto(state), payload: undefined, error: { code, message } },
    });
  }

  /** The wire takes nothing more until `resume()`. */
  stall(): void {
    this.#isWritable = false;
  }

  unstall(): void {
    this.#isWritable = true;
    this.#listener.onWritable();
  }

  /** The connection breaks. */
  cut(): void {
    this.#end();
  }

  /** Resolves to the first frame, past or to come, that fits. */
  async next(fits: (frame: DownFrame) => boolean): Promise<DownFrame> {
    for (;;) {
      const found = this.#frames.find(fits);
      if (found) return found;
      if (this.#isClosed) throw new Error('the stream was closed before such a frame came');
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** Resolves to the `n`th command (from 1) that was received. */
  async command(n = 1): Promise<DeviceCommand> {
    for (;;) {
      const found = this.commands[n - 1];
      if (found) return found;
      if (this.#isClosed) throw new Error(`the stream was closed before command ${n} came`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** Resolves once the stream is closed, to the hub's goodbye if there was one. */
  async closed(): Promise<Extract<DownFrame['body'], { $case: 'goodbye' }>['value'] | undefined> {
    while (!this.#isClosed) await new Promise<void>((resolve) => this.#waiting.add(resolve));
    const last = this.#frames.findLast(({ body }) => body?.$case === 'goodbye')?.body;
    return last?.$case === 'goodbye' ? last.value : undefined;
  }

  #end(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#listener.onClosed();
    this.#wake();
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }
}

/** A device on a stream in memory, to be scripted by a test. */
export function scriptedDevice(hub: StreamAcceptor, identity?: DeviceIdentity): ScriptedDevice {
  return new ScriptedDevice(hub, identity);
}
