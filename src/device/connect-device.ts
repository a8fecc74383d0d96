import { randomUUID } from 'node:crypto';
import type { ChannelOptions } from '@grpc/grpc-js';
import { HubError } from '../errors.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { type Addresses, eachAddress } from '../protocol/addresses.ts';
import { checkClientId, checkLabels } from '../protocol/checks.ts';
import { Device, type DeviceParts } from './device.ts';
import type { DeviceFact } from './facts.ts';
import type { Journal } from './journal/journal.ts';
import { memoryJournal } from './journal/memory-journal.ts';
import type { TokenSource } from './token-source.ts';
import { type DeviceTls, grpcDial } from './wire/grpc-wire.ts';
import { http2Dial } from './wire/http2-wire.ts';
import type { Dial } from './wire/hub-wire.ts';

export interface DeviceOptions {
  /** The hub: `host:port` or `unix:///path`. Of several (in a list, or with commas between) each attempt takes the next. */
  address: Addresses;
  /** The id by which callers know this device. Empty where the credential names it. */
  clientId: string;
  /** Bearer token, or a function that makes a fresh one for each attempt to connect. */
  token?: TokenSource | undefined;
  /** `true`: TLS with the authorities that Node trusts. Default: none. */
  tls?: DeviceTls | true | undefined;
  /** Free labels by which callers select devices. */
  labels?: Readonly<Record<string, string>> | undefined;
  /** Name and version of this program, for people. */
  agent?: string | undefined;
  /** Keeps commands from being run twice. Stays its owner's: close it after the device. Default: `memoryJournal()`. */
  journal?: Journal | undefined;
  /** Handlers that run at once. Default: 64. */
  concurrency?: number | undefined;
  /** Commands without result that the hub may hand us. Default: 0, the hub's own. */
  window?: number | undefined;
  /** Frames that may wait for the hub's acknowledgement before events are refused. Default: 1024. */
  maxBufferedFrames?: number | undefined;
  /** The same in bytes. Default: 8 MiB. */
  maxBufferedBytes?: number | undefined;
  /** An attempt that was not welcomed by then is given up, in ms. Default: 10,000. */
  connectTimeoutMs?: number | undefined;
  /** Waits between attempts, in ms, with full jitter. Default: 500 to 30,000, short again after 10,000 connected. */
  backoff?: { minMs?: number; maxMs?: number; stableAfterMs?: number } | undefined;
  /** How long commands wait after the first welcome for a handler of their type, in ms. Default: 1000. */
  handlerGraceMs?: number | undefined;
  /** False: resolve at once, and connect in the background. Default: true. */
  waitForWelcome?: boolean | undefined;
  /** Gives up waiting for the first welcome, and closes the device. */
  signal?: AbortSignal | undefined;
  /** Hears every fact worth logging or counting. */
  observe?: ((fact: DeviceFact) => void) | undefined;
  /**
   * Connects through grpc-js, with these options of its own: for HTTP proxies, or whatever else its channels can do.
   * Default: gRPC straight over node:http2, at half the cost.
   */
  channelOptions?: ChannelOptions | undefined;
  clock?: Clock | undefined;
  random?: (() => number) | undefined;
  /** Another wire than gRPC, for tests. */
  dial?: Dial | undefined;
}

/**
 * Connects a device, and keeps it connected. Resolves when the hub has welcomed it; while the hub cannot be reached it
 * goes on trying. Handlers are registered right after it: commands wait for them a moment (`handlerGraceMs`).
 *
 * Rejects with `unauthenticated`, `permission-denied`, `invalid-argument` or `unimplemented` when the hub refuses the
 * device, with `unavailable` when it says goodbye for good or `signal` is aborted, with `invalid-argument` for options
 * that cannot work.
 */
export async function connectDevice(options: DeviceOptions): Promise<Device> {
  const device = new Device(partsOf(options));
  const { signal, waitForWelcome = true } = options;
  if (!waitForWelcome || device.state.kind === 'connected') return device;
  const giveUp = Promise.withResolvers<void>();
  const welcomed = Promise.withResolvers<void>();
  const letGo = device.onStateChange((state) => {
    if (state.kind === 'connected') welcomed.resolve();
  });
  const onAbort = (): void => giveUp.resolve();
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  try {
    const outcome = await Promise.race([
      welcomed.promise,
      device.closed,
      giveUp.promise.then(() => 'given-up' as const),
    ]);
    if (outcome === 'given-up') {
      await device.close({ timeoutMs: 0 });
      throw new HubError('unavailable', `${options.address}: no welcome before the signal was aborted`, {
        cause: signal?.reason,
      });
    }
    if (outcome?.kind === 'refused') throw outcome.error;
    return device;
  } finally {
    letGo();
    signal?.removeEventListener('abort', onAbort);
  }
}

function partsOf({
  address,
  clientId,
  token,
  tls,
  labels = {},
  agent = '',
  journal = memoryJournal(),
  concurrency = 64,
  window = 0,
  maxBufferedFrames = 1024,
  maxBufferedBytes = 8 * 1024 * 1024,
  connectTimeoutMs = 10_000,
  backoff: { minMs, maxMs, stableAfterMs = 10_000 } = {},
  handlerGraceMs = 1000,
  observe,
  channelOptions,
  clock = systemClock,
  random = Math.random,
  dial,
}: DeviceOptions): DeviceParts {
  const addresses = eachAddress(address);
  if (clientId !== '') checkClientId(clientId);
  checkLabels(labels);
  whole('concurrency', concurrency, 1);
  whole('window', window, 0);
  whole('maxBufferedFrames', maxBufferedFrames, 1);
  whole('maxBufferedBytes', maxBufferedBytes, 1);
  whole('connectTimeoutMs', connectTimeoutMs, 1);
  whole('handlerGraceMs', handlerGraceMs, 0);
  return {
    link: {
      dial:
        dial ??
        (channelOptions ? grpcDial({ addresses, tls, channelOptions, random }) : http2Dial({ addresses, tls, random })),
      token,
      hello: { clientId, bootId: randomUUID(), journalId: journal.id, labels: { ...labels }, window, agent },
      clock,
      random,
      connectTimeoutMs,
      backoff: { minMs, maxMs },
      stableAfterMs,
      observe,
    },
    inbox: { concurrency, maxHeld: Math.max(4096, 2 * window, 2 * concurrency), handlerGraceMs },
    outbox: { maxFrames: maxBufferedFrames, maxBytes: maxBufferedBytes },
    journal,
    clock,
    observe,
  };
}

function whole(name: string, value: number, least: number): void {
  if (!Number.isSafeInteger(value) || value < least)
    throw new HubError('invalid-argument', `${name} ${value} is not a whole number from ${least}`);
}
