import { randomUUID } from 'node:crypto';
import type { Metadata } from '@grpc/grpc-js';
import { HubError } from '../errors.ts';
import type { CommandError, Payload } from '../protocol/command.ts';
import { errorToProto, payloadToProto } from '../protocol/convert.ts';
import { type DownFrame, protocolVersion, type UpBody, type UpFrame } from '../protocol/frames.ts';
import { CommandState } from '../protocol/gen/signalbox/v1/command.ts';
import { withMessageRoom } from '../protocol/message-splitter.ts';
import {
  type MessageOf,
  type MethodDefinition,
  messageType,
  type RequestOf,
  type ResponseOf,
  type ServiceDefinition,
} from '../protocol/service-definition.ts';
import { type DeviceEnvironment, deviceHandler, type FrameCodec, type Spokesman } from './device-stream.ts';
import type { BidiHandler } from './raw-call.ts';

/** Who a mounted stream's device is. */
export interface MountedDevice {
  readonly clientId: string;
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

/** What a device's message says of a command. */
export interface MountedAnswer {
  /** The command: its id, or what `idOf` read from it. Default: the oldest that has no answer yet. */
  readonly commandId?: string | undefined;
  /** The command's result; `message` stands for the device's message as it came. Default: an empty one. */
  readonly result?: Payload | 'message' | undefined;
  /** The command has failed. */
  readonly error?: CommandError | undefined;
  /** False: the device has the command and its end is yet to come. Default: true, this is the end. */
  readonly isFinal?: boolean | undefined;
}

/** How a bidi method of a user's own is understood. `Up` is what devices send, `Down` their command message. */
export interface MountOptions<Up, Down> {
  /**
   * Who is there. Asked when the stream opens, without a message, and if that gives undefined with the first message,
   * which then says nothing else. Throw a `HubError` to refuse. The credential still decides which id it may be.
   */
  identify(message: Up | undefined, metadata: Metadata): MountedDevice | undefined;
  /** The id that devices will answer with, where the command message has one of its own. */
  idOf?: ((command: Down) => string | undefined) | undefined;
  /** What a message answers; undefined for one that answers nothing. */
  ackOf(message: Up): MountedAnswer | undefined;
}

/** A mounted method, made by `mount`. */
export interface Mount {
  readonly service: ServiceDefinition;
  readonly method: MethodDefinition;
  readonly options: MountOptions<never, never>;
}

/**
 * Lets the hub serve a bidi method of a user's own service as the stream of its devices: the payload of each command
 * goes out as it is, as the user's command message. Such devices cannot resume, cancel or take queued commands twice,
 * and HTTP/2 keepalive is what watches over them.
 */
export function mount<S extends ServiceDefinition, K extends keyof S['methods'] & string>(
  service: S,
  method: K,
  options: MountOptions<RequestOf<S['methods'][K]>, ResponseOf<S['methods'][K]>>,
): Mount {
  const definition = service.methods[method];
  if (definition === undefined)
    throw new HubError('invalid-argument', `the service ${service.fullName} has no method "${method}"`);
  if (!definition.requestStream || !definition.responseStream)
    throw new HubError('invalid-argument', `${service.fullName}/${definition.name} does not stream both ways`);
  return { service, method: definition, options: options as MountOptions<never, never> };
}

/** The path of a mounted method: `/pkg.Service/Method`. */
export function mountPath({ service, method }: Mount): string {
  return `/${service.fullName}/${method.name}`;
}

export function mountHandler(mounted: Mount, environment: DeviceEnvironment): BidiHandler {
  return deviceHandler(environment, ({ metadata }) => new MountedFrames(mounted, metadata));
}

/** Speaks the hub's protocol for a device that does not know it. */
class MountedFrames implements FrameCodec {
  readonly #mount: Mount;
  readonly #metadata: Metadata;
  readonly #options: MountOptions<unknown, unknown>;
  /** Commands without an end, oldest first. */
  readonly #open = new Map<string, { readonly seq: number; readonly ownId: string | undefined; isTaken: boolean }>();
  #isKnown = false;
  #lastSent = 0;
  #lastReceived = 0;

  constructor(mounted: Mount, metadata: Metadata) {
    this.#mount = mounted;
    this.#metadata = metadata;
    this.#options = mounted.options as unknown as MountOptions<unknown, unknown>;
  }

  open(): readonly UpFrame[] {
    const device = this.#options.identify(undefined, this.#metadata);
    return device === undefined ? [] : [this.#hello(device)];
  }

  up(bytes: Buffer): readonly UpFrame[] {
    const { requestType } = this.#mount.method;
    const message = messageType<MessageOf<typeof requestType>>(requestType).decode(bytes);
    if (!this.#isKnown) {
      const device = this.#options.identify(message, this.#metadata);
      if (device === undefined) throw new Error(`the first message of ${mountPath(this.#mount)} names no device`);
      return [this.#hello(device)];
    }
    const answer = this.#options.ackOf(message);
    if (answer === undefined) return [];
    const commandId = this.#commandOf(answer);
    if (commandId === undefined) return [];
    if (answer.isFinal === false) {
      this.#open.get(commandId)!.isTaken = true;
      return [this.#frame({ $case: 'started', value: { commandId } })];
    }
    this.#open.delete(commandId);
    const result: Payload =
      answer.result === 'message'
        ? { type: requestType.$type, value: bytes }
        : (answer.result ?? { type: '', value: new Uint8Array() });
    return [
      this.#frame({
        $case: 'result',
        value:
          answer.error === undefined
            ? {
                commandId,
                state: CommandState.COMMAND_STATE_SUCCEEDED,
                payload: payloadToProto(result),
                error: undefined,
              }
            : {
                commandId,
                state: CommandState.COMMAND_STATE_FAILED,
                payload: undefined,
                error: errorToProto(answer.error),
              },
      }),
    ];
  }

  down(frame: DownFrame, device: Spokesman): Buffer | undefined {
    if (frame.seq > this.#lastReceived) this.#lastReceived = frame.seq;
    switch (frame.body?.$case) {
      case 'command': {
        const { id, payload } = frame.body.value;
        const bytes = payload?.value ?? new Uint8Array();
        this.#open.set(id, { seq: frame.seq, ownId: this.#ownId(bytes), isTaken: false });
        return withMessageRoom(bytes);
      }
      case 'ping':
        device.answer(this.#unnumbered({ $case: 'pong', value: { nonce: frame.body.value.nonce } }));
        return undefined;
      case 'cancel':
      case 'pong':
      case 'welcome':
      case 'drain':
      case 'goodbye':
      case undefined:
        return undefined;
      default:
        return frame.body satisfies never;
    }
  }

  #ownId(bytes: Uint8Array): string | undefined {
    const { idOf } = this.#options;
    if (idOf === undefined) return undefined;
    try {
      return idOf(messageType<unknown>(this.#mount.method.responseType).decode(bytes));
    } catch {
      // A payload of another type has no id of the user's; the device will say what it makes of it.
      return undefined;
    }
  }

  #commandOf({ commandId }: MountedAnswer): string | undefined {
    if (commandId === undefined) return this.#open.keys().next().value;
    if (this.#open.has(commandId)) return commandId;
    for (const [id, { ownId }] of this.#open) if (ownId === commandId) return id;
    return undefined;
  }

  #hello({ clientId, labels = {} }: MountedDevice): UpFrame {
    this.#isKnown = true;
    const value = {
      clientId,
      bootId: randomUUID(),
      // New for every stream: what was in flight when a stream broke cannot be asked for.
      journalId: randomUUID(),
      protocol: protocolVersion,
      labels: { ...labels },
      resume: undefined,
      inFlight: [],
      window: 0,
      agent: mountPath(this.#mount).slice(1),
    };
    return this.#unnumbered({ $case: 'hello', value });
  }

  #frame(body: UpBody): UpFrame {
    return { seq: ++this.#lastSent, ack: this.#acknowledged(), body };
  }

  #unnumbered(body: UpBody): UpFrame {
    return { seq: 0, ack: this.#acknowledged(), body };
  }

  /** Up to the oldest command that the device has not answered. */
  #acknowledged(): number {
    for (const { seq, isTaken } of this.#open.values()) if (!isTaken) return seq - 1;
    return this.#lastReceived;
  }
}
