import { HubError } from '../errors.ts';
import type { EventLog } from '../events/event-log.ts';
import { type Clock, systemClock } from '../flow/clock.ts';
import { limits } from '../protocol/checks.ts';
import type { ClientClaims } from './client-claims.ts';
import type { CommandStore } from './command-store.ts';
import type { HubFact } from './facts.ts';

export interface HubOptions {
  /** Where events go. Default: nowhere. */
  log?: EventLog | undefined;
  /** Where queued commands are kept. Default: none, and queued commands are refused with `unimplemented`. */
  commands?: CommandStore | undefined;
  /** Asked at each hello, where several hubs share the clients. Default: none, this hub is the only one. */
  claims?: ClientClaims | undefined;
  clock?: Clock | undefined;
  random?: (() => number) | undefined;
  /** Name of this process, for people. Default: `hub`. */
  node?: string | undefined;
  /** Hears every fact worth logging or counting. Default: nobody listens. */
  observe?: ((fact: HubFact) => void) | undefined;
  /** `idle`: ping a stream that is silent for `heartbeatMs`, and any once in four of these. `interval`: ping every `heartbeatMs`. `off`: never. Default: `idle`. */
  ping?: 'idle' | 'interval' | 'off' | undefined;
  /** Milliseconds. Default: 15,000. */
  heartbeatMs?: number | undefined;
  /** A stream silent for `heartbeatMs` plus this many ms is dead, and is reset. Default: 10,000. */
  livenessMs?: number | undefined;
  /** A new stream has this many ms for its hello. Default: 10,000. */
  helloTimeoutMs?: number | undefined;
  /** A lost session can be resumed for this many ms. Default: 60,000. */
  resumeWindowMs?: number | undefined;
  /** A stream that takes nothing for this many ms is a slow consumer and is closed. Default: 30,000. */
  stallMs?: number | undefined;
  /** Commands without result that one device holds at most; a hello may ask for fewer. Default: 256. */
  window?: number | undefined;
  /** Live commands that may wait for one client before further ones are refused. Default: 256. */
  waitingCommands?: number | undefined;
  /** The same in bytes of payload. Default: 8 MiB. */
  waitingBytes?: number | undefined;
  /** Queued commands that one client's mailbox holds. Default: 10,000. */
  mailboxCommands?: number | undefined;
  /** The same in bytes of payload. Default: 64 MiB. */
  mailboxBytes?: number | undefined;
  /** Largest payload, in bytes. Default: 1 MiB. */
  maxPayloadBytes?: number | undefined;
  /** Updates that one reader may leave unread before its reading fails with `resource-exhausted`. Default: 1,024. */
  unreadUpdates?: number | undefined;
  /** After a live command's time is over, the device has this many ms to tell how it ended. Default: 1,000. */
  graceMs?: number | undefined;
  /** A queued command that was sent and of which nothing is heard ends this many ms after its time to live. Default: 1 hour. */
  resultWaitMs?: number | undefined;
  /** Ended commands that are remembered in memory, for watchers and repeated sends: at least half of these. Default: 10,000. */
  rememberedCommands?: number | undefined;
  /** The same in bytes of payloads and results. Default: 32 MiB. */
  rememberedBytes?: number | undefined;
  /** Clients that are away and are still listed. Default: 10,000. */
  rememberedClients?: number | undefined;
  /** Streams of devices that the hub holds at most. Default: 50,000. */
  maxSessions?: number | undefined;
  /** Ended commands that the store keeps. Default: 100,000. */
  historyCommands?: number | undefined;
  /** Ended commands are kept in the store for this many ms. Default: 7 days. */
  historyMs?: number | undefined;
}

type Resolved = { readonly [K in keyof HubOptions]-?: NonNullable<HubOptions[K]> };
/** The options with every default filled in. */
export type Settings = Omit<Resolved, 'log' | 'commands' | 'claims'> &
  Pick<HubOptions, 'log' | 'commands' | 'claims'> & {
    /** False: nobody hears of facts, so that those of the hot path need not be made. */
    readonly isObserved: boolean;
  };

/** Fills in the defaults; throws `invalid-argument` for values that would only fail late. */
export function settingsFrom(options: HubOptions): Settings {
  const settings: Settings = {
    log: options.log,
    commands: options.commands,
    claims: options.claims,
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
    node: options.node ?? 'hub',
    isObserved: options.observe !== undefined,
    observe: options.observe ? guarded(options.observe) : () => undefined,
    ping: options.ping ?? 'idle',
    heartbeatMs: atLeast('heartbeatMs', options.heartbeatMs ?? 15_000, 1),
    livenessMs: atLeast('livenessMs', options.livenessMs ?? 10_000, 1),
    helloTimeoutMs: atLeast('helloTimeoutMs', options.helloTimeoutMs ?? 10_000, 1),
    resumeWindowMs: atLeast('resumeWindowMs', options.resumeWindowMs ?? 60_000, 0),
    stallMs: atLeast('stallMs', options.stallMs ?? 30_000, 1),
    window: atLeast('window', options.window ?? 256, 1),
    waitingCommands: atLeast('waitingCommands', options.waitingCommands ?? 256, 1),
    waitingBytes: atLeast('waitingBytes', options.waitingBytes ?? 8 * 1024 * 1024, 1),
    mailboxCommands: atLeast('mailboxCommands', options.mailboxCommands ?? 10_000, 1),
    mailboxBytes: atLeast('mailboxBytes', options.mailboxBytes ?? 64 * 1024 * 1024, 1),
    maxPayloadBytes: atLeast('maxPayloadBytes', options.maxPayloadBytes ?? limits.payloadBytes, 1),
    unreadUpdates: atLeast('unreadUpdates', options.unreadUpdates ?? 1024, 8),
    graceMs: atLeast('graceMs', options.graceMs ?? 1000, 0),
    resultWaitMs: atLeast('resultWaitMs', options.resultWaitMs ?? 3_600_000, 0),
    rememberedCommands: atLeast('rememberedCommands', options.rememberedCommands ?? 10_000, 0),
    rememberedBytes: atLeast('rememberedBytes', options.rememberedBytes ?? 32 * 1024 * 1024, 0),
    rememberedClients: atLeast('rememberedClients', options.rememberedClients ?? 10_000, 0),
    maxSessions: atLeast('maxSessions', options.maxSessions ?? 50_000, 1),
    historyCommands: atLeast('historyCommands', options.historyCommands ?? 100_000, 0),
    historyMs: atLeast('historyMs', options.historyMs ?? 7 * 24 * 3_600_000, 0),
  };
  return settings;
}

/** An observer that throws brings nothing down; the runtime's own warning tells of it. */
export function guarded<T>(listener: (told: T) => void): (told: T) => void {
  return (told) => {
    try {
      listener(told);
    } catch (error) {
      process.emitWarning(
        `a listener of the hub threw: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      );
    }
  };
}

function atLeast(name: string, value: number, least: number): number {
  if (!Number.isFinite(value) || value < least)
    throw new HubError('invalid-argument', `${name} is ${value}, it must be at least ${least}`);
  return value;
}
