import type { Payload } from '../protocol/command.ts';

/** What to encode: a method's request by the method's name, or a message by its type. */
export interface PayloadSource {
  /** As users write it: `start`, `ConfigUpdate`, `PumpService/Start`, or the full path. */
  readonly method?: string | undefined;
  /** Full or short name of a message type. */
  readonly type?: string | undefined;
  /** The message in proto3 JSON. Undefined: the empty message. */
  readonly json?: unknown;
}

/** A method that devices implement, as it can be shown to people. */
export interface DeviceMethod {
  /** `pkg.v1.Service/Method`: the payload type of its commands. */
  readonly path: string;
  /** `service/method` as users type it: `configUpdate`. */
  readonly shortName: string;
  readonly requestType: string;
  readonly responseType: string;
  /** True when it yields items before it ends. */
  readonly streams: boolean;
}

/** JSON on one side, payload bytes on the other: for the CLI, the gateway and the console. */
export interface PayloadJson {
  /**
   * Throws `invalid-argument` naming the wrong key or value and its message, an unknown method or type (with a
   * suggestion) or an ambiguous one (with its candidates).
   */
  encode(source: PayloadSource): Payload;
  /** The payload as proto3 JSON, defaults included; undefined when its type is not known or its bytes are not of it. */
  decode(payload: Payload): unknown | undefined;
  /** The methods known here, by path. */
  methods(): readonly DeviceMethod[];
}
