import { requireScope } from '../auth/access.ts';
import type { Authenticator, Principal } from '../auth/principal.ts';
import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import type { DeviceIdentity, DeviceStream, DeviceStreamListener } from '../hub/device-stream.ts';
import { type DownFrame, decodeUp, encodeDown, type UpFrame } from '../protocol/frames.ts';
import { messageRoom } from '../protocol/message-splitter.ts';
import type { GrpcFact } from './facts.ts';
import { checkHeaderBytes } from './header-limit.ts';
import type { BidiHandler, Opening, RawCall, RawCallListener } from './raw-call.ts';
import { statusOfError } from './status.ts';

/** What takes over device streams: the hub. */
export interface DeviceStreamTaker {
  accept(stream: DeviceStream, identity: DeviceIdentity): DeviceStreamListener;
}

export interface DeviceEnvironment {
  readonly hub: DeviceStreamTaker;
  readonly authenticator: Authenticator;
  readonly clock: Clock;
  readonly observe: (fact: GrpcFact) => void;
  /** The first frame has to come within this time, in ms. */
  readonly firstFrameMs: number;
  readonly maxHeaderBytes: number;
}

/** How frames look on one kind of bidi call. Made anew for each call, so that it may remember. */
export interface FrameCodec {
  /** Frames that the device would send first, where the opening of the call says it all. */
  open?(): readonly UpFrame[];
  /** The frames that a message means: one, none, or several. Throws on bytes that are none. */
  up(bytes: Buffer): readonly UpFrame[] | UpFrame;
  /** The bytes of a frame behind `messageRoom` free ones; undefined for one that this kind of call does not carry. */
  down(frame: DownFrame, device: Spokesman): Buffer | undefined;
}

/** Speaks for a device. */
export interface Spokesman {
  answer(frame: UpFrame): void;
}

/** Frames as they are in `device.proto`. */
export const plainFrames: FrameCodec = { up: decodeUp, down: (frame) => encodeDown(frame, messageRoom) };

/**
 * Handles a bidi call of a device: first the credential, then the stream goes to the hub. What the device sends
 * meanwhile waits in bounded buffers.
 */
export function deviceHandler(
  environment: DeviceEnvironment,
  codec: (opening: Opening) => FrameCodec = () => plainFrames,
): BidiHandler {
  return (call, opening) => {
    const take = async (): Promise<void> => {
      checkHeaderBytes(opening.headerBytes, environment.maxHeaderBytes);
      const principal = await environment.authenticator.authenticate(opening.credentials());
      requireScope(principal, 'device');
      if (call.isClosed) return;
      const stream = new GrpcDeviceStream(call, codec(opening), environment);
      stream.attach(environment.hub.accept(stream, identityOf(principal)));
    };
    take().catch((thrown: unknown) => {
      const error = toHubError(thrown);
      environment.observe({
        kind: 'grpc-call-failed',
        method: call.path,
        peer: call.peer,
        code: error.code,
        message: error.message,
        ...(error.code === 'internal' && { cause: thrown }),
      });
      call.end(statusOfError(error));
    });
  };
}

/** One of very many: it is its own listener, without closures. */
class GrpcDeviceStream implements DeviceStream, RawCallListener, Spokesman {
  readonly peer: string;
  readonly #call: RawCall;
  readonly #codec: FrameCodec;
  readonly #environment: DeviceEnvironment;
  #listener: DeviceStreamListener | undefined;
  #letGoOfFirstFrame: (() => void) | undefined;

  constructor(call: RawCall, codec: FrameCodec, environment: DeviceEnvironment) {
    this.peer = call.peer;
    this.#call = call;
    this.#codec = codec;
    this.#environment = environment;
  }

  /** Begins to feed the hub. */
  attach(listener: DeviceStreamListener): void {
    this.#listener = listener;
    const { clock, firstFrameMs } = this.#environment;
    this.#letGoOfFirstFrame = clock.after(firstFrameMs, () =>
      this.#call.end(statusOfError(new HubError('deadline-exceeded', `no frame came within ${firstFrameMs} ms`))),
    );
    const first = this.#codec.open?.() ?? [];
    if (first.length > 0) this.#firstFrameCame();
    for (const frame of first) this.#guard(() => listener.onFrame(frame));
    this.#call.listen(this);
  }

  #firstFrameCame(): void {
    this.#letGoOfFirstFrame?.();
    this.#letGoOfFirstFrame = undefined;
  }

  send(frame: DownFrame): boolean {
    const bytes = this.#codec.down(frame, this);
    return bytes === undefined || this.#call.write(bytes);
  }

  close(): void {
    this.#call.end();
  }

  reset(): void {
    this.#call.reset();
  }

  onMessage(bytes: Buffer): void {
    this.#firstFrameCame();
    const listener = this.#listener!;
    let frames: readonly UpFrame[] | UpFrame;
    try {
      frames = this.#codec.up(bytes);
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      this.#guard(() => listener.onMalformed(error));
      return;
    }
    try {
      if (Array.isArray(frames)) for (const frame of frames) listener.onFrame(frame);
      else listener.onFrame(frames as UpFrame);
    } catch (thrown) {
      this.#failed(thrown);
    }
  }

  onWritable(): void {
    this.#guard(() => this.#listener?.onWritable());
  }

  onClosed(): void {
    this.#letGoOfFirstFrame?.();
    this.#guard(() => this.#listener?.onClosed());
  }

  /** Never from within send(): the hub does not expect an answer before its own call is over. */
  answer(frame: UpFrame): void {
    process.nextTick(() => {
      if (!this.#call.isClosed) this.#guard(() => this.#listener?.onFrame(frame));
    });
  }

  /** A fault of ours in one stream costs that stream and nothing else. (`onMessage` does the same without a function.) */
  #guard(run: () => void): void {
    try {
      run();
    } catch (thrown) {
      this.#failed(thrown);
    }
  }

  #failed(thrown: unknown): void {
    const { code, message } = toHubError(thrown);
    const { observe } = this.#environment;
    observe({
      kind: 'grpc-call-failed',
      method: this.#call.path,
      peer: this.peer,
      code,
      message,
      cause: thrown,
    });
    this.#call.reset();
  }
}

function identityOf(principal: Principal): DeviceIdentity {
  return {
    tenant: principal.tenant,
    ...(principal.clientId !== undefined && { clientId: principal.clientId }),
    ...(principal.expiresAtMs !== undefined && { expiresAtMs: principal.expiresAtMs }),
  };
}
