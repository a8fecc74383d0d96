import type { Dial, HubWire } from '../device/wire/hub-wire.ts';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import type { DeviceIdentity, DeviceStream, DeviceStreamListener } from '../hub/device-stream.ts';
import { decodeUp, encodeDown } from '../protocol/frames.ts';
import type { StreamAcceptor } from './scripted-device.ts';

export interface MemoryDialOptions {
  /** Who the device is. Default: tenant `default`, any client id. */
  readonly identity?: DeviceIdentity | undefined;
  /** Frames arrive after a time drawn between these two, in ms, in their order. Default: 0 and 0. */
  readonly latencyMs?: readonly [number, number] | undefined;
  readonly clock?: Clock | undefined;
  readonly random?: (() => number) | undefined;
}

/** The roads in memory from one device to a hub, one stream at a time. */
export interface MemoryDial {
  /** For `connectDevice({ dial })`. */
  readonly dial: Dial;
  /** Breaks the stream there is: both ends hear of it, and what was on its way is lost. */
  cut(): void;
  /** As `cut`, but the hub does not hear of it: the device's machine has lost its power. */
  vanish(): void;
}

/**
 * Connects a real device to a hub in this process, without a network: `connectDevice({ dial: memoryDial(() => hub).dial })`.
 * Frames pass the real codec. `hub` is asked at each attempt; undefined refuses it.
 */
export function memoryDial(hub: () => StreamAcceptor | undefined, options: MemoryDialOptions = {}): MemoryDial {
  const {
    identity = { tenant: 'default' },
    latencyMs: [least, most] = [0, 0],
    clock = systemClock,
    random = Math.random,
  } = options;
  let current: { cut(tellsHub: boolean): void } | undefined;

  /** Things happen at the other end later, and in their order. */
  const lane = (): ((run: () => void) => void) => {
    let newest = 0;
    return (run) => {
      newest = Math.max(newest, clock.monotonic() + least + random() * (most - least));
      clock.after(newest - clock.monotonic(), run);
    };
  };

  const dial: Dial = (listener) => {
    const up = lane();
    const down = lane();
    let isOver = false;
    let isHubOver = false;
    const endDevice = (error: HubError | undefined): void => {
      if (isOver) return;
      isOver = true;
      listener.onClosed(error);
    };
    const endHub = (): void => {
      if (isHubOver) return;
      isHubOver = true;
      hubSide?.onClosed();
    };
    const stream: DeviceStream = {
      peer: 'memory',
      send(frame) {
        if (isHubOver) return false;
        const bytes = encodeDown(frame);
        down(() => {
          if (!isOver) listener.onFrame(bytes);
        });
        return true;
      },
      close() {
        down(() => endDevice(undefined));
        up(endHub);
      },
      reset() {
        down(() => endDevice(new HubError('unavailable', 'the hub reset the stream')));
        endHub();
      },
    };
    const acceptor = hub();
    let hubSide: DeviceStreamListener | undefined;
    if (acceptor) hubSide = acceptor.accept(stream, identity);
    else down(() => endDevice(new HubError('unavailable', 'no hub is there')));
    const link = {
      cut(tellsHub: boolean): void {
        down(() => endDevice(new HubError('unavailable', 'the stream was cut')));
        if (tellsHub) endHub();
        else isHubOver = true;
      },
    };
    current = link;
    const wire: HubWire = {
      send(bytes) {
        if (isOver) return false;
        const copy = Buffer.from(bytes);
        up(() => {
          if (!isHubOver) hubSide?.onFrame(decodeUp(copy));
        });
        return true;
      },
      end: () => up(() => endHub()),
      destroy() {
        isOver = true;
        up(endHub);
      },
    };
    return wire;
  };
  return { dial, cut: () => current?.cut(true), vanish: () => current?.cut(false) };
}
