import type { DownFrame, UpFrame } from '../protocol/frames.ts';

/** One stream to a device, on whatever wire. The hub writes frames and hears frames; it knows no gRPC. */
export interface DeviceStream {
  /** Address of the other end, for people. */
  readonly peer: string;
  /** Writes one frame. False: the wire is full, wait for `onWritable`. Frames after `close` or `reset` are dropped. */
  send(frame: DownFrame): boolean;
  /** Ends the stream after what was written. */
  close(): void;
  /** Ends the stream now, whatever the other end does. Frees everything; `onClosed` follows. */
  reset(): void;
}

/** What a stream tells the hub. */
export interface DeviceStreamListener {
  onFrame(frame: UpFrame): void;
  /** Bytes came that are no frame. */
  onMalformed(error: Error): void;
  onWritable(): void;
  /** Called once, however the stream ended. */
  onClosed(): void;
}

/** Who is at the other end, as its credential says. */
export interface DeviceIdentity {
  readonly tenant: string;
  /** The only client id it may use; undefined where no credential is asked for. */
  readonly clientId?: string | undefined;
  /** Unix ms at which the credential ends, and the stream with it. */
  readonly expiresAtMs?: number | undefined;
}
