import { ticketBooth } from '../auth/ticket-booth.ts';
import { HubError } from '../errors.ts';
import { systemClock } from '../flow/clock.ts';
import { createApp } from './app.ts';
import { type ListenAddress, type Listener, listen, parseAddress } from './listen.ts';
import { defaultLimits, type GatewayLimits, type GatewayOptions } from './options.ts';
import type { Room } from './room.ts';
import { Streams } from './sse/streams.ts';
import { eventJsonWith } from './views.ts';

/** A running gateway. */
export interface Gateway extends AsyncDisposable {
  /** Where it can be reached: `http://127.0.0.1:8080`, `unix:///run/signalbox.sock`. */
  readonly urls: readonly string[];
  /** Event streams that are open. */
  readonly openStreams: number;
  /**
   * Refuses new streams and is not ready any more; tells open ones to come back after `reconnectAfterMs` (default:
   * 1,000) and up to `spreadMs` (default: 5,000) more, and ends them. Resolves when they are closed.
   */
  drain(options?: { reconnectAfterMs?: number; spreadMs?: number }): Promise<void>;
  /** Drains, lets running requests end for at most `timeoutMs` (default: 5,000), then cuts what is left. */
  close(options?: { timeoutMs?: number }): Promise<void>;
}

/**
 * Opens the HTTP side of a hub. The hub, log and authenticator stay their owner's.
 * Throws `invalid-argument` for options that cannot be, `unavailable` for an address that cannot be opened.
 */
export async function serveGateway(options: GatewayOptions): Promise<Gateway> {
  const limits = checkedLimits(options.limits);
  const addresses = options.addresses.map(parseAddress);
  if (addresses.length === 0) throw new HubError('invalid-argument', 'the gateway has no address to listen on');
  const clock = options.clock ?? systemClock;
  const { types } = options;
  const streams = new Streams({
    log: options.log,
    clock,
    random: options.random ?? Math.random,
    observe: options.observe ?? (() => undefined),
    rewrite: types === undefined ? undefined : eventJsonWith(types),
    maxStreams: limits.streams,
    maxStreamsPerSubject: limits.streamsPerSubject,
    bufferBytes: limits.streamBufferBytes,
    stallMs: limits.stallMs,
    keepaliveMs: limits.keepaliveMs,
    retryMs: limits.retryMs,
  });
  const tickets = options.tickets ?? ticketBooth({ clock });
  let isDraining = false;
  const room: Room = {
    hub: options.hub,
    options,
    streams,
    tickets,
    types,
    limits,
    clock,
    isDraining: () => isDraining,
  };
  const app = await createApp(room, options.allowedHosts ?? ownHosts(addresses));
  const listeners: Listener[] = [];
  let closing: Promise<void> | undefined;

  const drain: Gateway['drain'] = ({ reconnectAfterMs = 1_000, spreadMs = 5_000 } = {}) => {
    isDraining = true;
    return streams.drain({ reconnectAfterMs, spreadMs });
  };
  const closeAll = async (timeoutMs: number): Promise<void> => {
    let stopTimer: () => void = () => undefined;
    const overdue = new Promise<void>((resolve) => {
      stopTimer = clock.after(timeoutMs, resolve);
    });
    // Streams first: node takes a connection whose answer has ended for idle, and cuts what it has not sent yet.
    await Promise.race([drain(), overdue]);
    streams.close();
    const stopped = Promise.all(listeners.map((listener) => listener.stop()));
    await Promise.race([stopped, overdue]);
    stopTimer();
    for (const listener of listeners) listener.cut();
    await stopped;
    await app.close();
  };
  const close: Gateway['close'] = ({ timeoutMs = 5_000 } = {}) => (closing ??= closeAll(timeoutMs));

  try {
    for (const address of addresses) {
      const listener = await listen(app, address, options.tls, limits);
      listeners.push(listener);
      options.observe?.({ kind: 'gateway-listening', url: listener.url });
    }
  } catch (error) {
    await close({ timeoutMs: 0 });
    throw error;
  }
  return {
    urls: listeners.map(({ url }) => url),
    get openStreams() {
      return streams.open;
    },
    drain,
    close,
    [Symbol.asyncDispose]: () => close(),
  };
}

/** The names of loopback and of the addresses themselves; undefined, any name, for a wildcard. */
function ownHosts(addresses: readonly ListenAddress[]): string[] | undefined {
  const hosts = ['localhost', '127.0.0.1', '[::1]'];
  for (const address of addresses) {
    if (address.kind === 'unix') continue;
    if (address.host === '0.0.0.0' || address.host === '::') return undefined;
    hosts.push(address.host.includes(':') ? `[${address.host}]` : address.host);
  }
  return hosts;
}

function checkedLimits(limits: GatewayLimits = {}): Required<GatewayLimits> {
  const all = { ...defaultLimits };
  for (const [name, value] of Object.entries(limits) as [keyof GatewayLimits, number | undefined][]) {
    if (value === undefined) continue;
    const least = name === 'idleLimitMs' ? 0 : 1;
    if (!Number.isFinite(value) || value < least)
      throw new HubError('invalid-argument', `gateway limit ${name} is ${value}, it must be at least ${least}`);
    all[name] = value;
  }
  return all;
}
