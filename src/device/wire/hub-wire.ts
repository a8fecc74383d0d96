import type { HubError } from '../../errors.ts';

/** One attempt at a stream to the hub, on whatever wire. */
export interface HubWire {
  /** Sends one encoded frame. False: the wire is full, wait for `onWritable`. After the end frames are dropped. */
  send(bytes: Buffer): boolean;
  /** Ends our side after what was sent. */
  end(): void;
  /** Ends everything now, whatever the other end does, and frees it. `onClosed` is not called. */
  destroy(): void;
}

/** What a wire tells. */
export interface HubWireListener {
  onFrame(bytes: Buffer): void;
  onWritable(): void;
  /** Called once, however the stream ended; undefined: in peace. */
  onClosed(error: HubError | undefined): void;
}

/** Makes a wire. It need not be connected yet: what is sent waits until it is. */
export type Dial = (listener: HubWireListener, token: string | undefined) => HubWire;
