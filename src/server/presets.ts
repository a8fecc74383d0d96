import type { HubOptions } from '../hub/options.ts';

type Tuned =
  | 'ping'
  | 'heartbeatMs'
  | 'livenessMs'
  | 'resumeWindowMs'
  | 'stallMs'
  | 'window'
  | 'waitingCommands'
  | 'waitingBytes'
  | 'mailboxCommands'
  | 'mailboxBytes';

/** How streams of users are limited. */
interface StreamTuning {
  /** Event streams that one user has open at once, over all nodes; 0: as many as they like. Default: 5. */
  readonly streamsPerUser: number;
  /** After so many ms the places of a node that died are free again. Default: 180000. */
  readonly streamLeaseMs: number;
}

/** How a hub is tuned: those of its options that depend on where it runs, and how much the log tells. */
export type Tuning = { readonly [K in Tuned]: NonNullable<HubOptions[K]> } & StreamTuning & {
    /** Level of the log. Default: `info`. */
    readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
  };

const mebibyte = 1024 * 1024;

const production: Tuning = {
  ping: 'idle',
  heartbeatMs: 15_000,
  livenessMs: 10_000,
  resumeWindowMs: 60_000,
  stallMs: 30_000,
  window: 256,
  waitingCommands: 256,
  waitingBytes: 8 * mebibyte,
  mailboxCommands: 10_000,
  mailboxBytes: 64 * mebibyte,
  streamsPerUser: 5,
  streamLeaseMs: 180_000,
  logLevel: 'info',
};

/** Tunings by name; `preset: 'development'` in the options, and single values beside it win over it. */
export const presets = {
  /** For devices on real networks. The default. */
  production,
  /** Patience for breakpoints, and a talkative log. */
  development: {
    ...production,
    ping: 'interval',
    livenessMs: 300_000,
    stallMs: 300_000,
    streamsPerUser: 64,
    logLevel: 'debug',
  },
  /** Short waits, small queues, silence. */
  test: {
    ...production,
    heartbeatMs: 1000,
    livenessMs: 2000,
    resumeWindowMs: 5000,
    stallMs: 2000,
    window: 32,
    waitingCommands: 64,
    mailboxCommands: 100,
    mailboxBytes: mebibyte,
    streamLeaseMs: 5000,
    logLevel: 'silent',
  },
  /** Deep queues, and pings only where nothing else is said. */
  highThroughput: {
    ...production,
    heartbeatMs: 30_000,
    livenessMs: 30_000,
    window: 2048,
    waitingCommands: 4096,
    waitingBytes: 64 * mebibyte,
    mailboxCommands: 100_000,
    mailboxBytes: 256 * mebibyte,
    streamsPerUser: 64,
    logLevel: 'warn',
  },
  /** Early notice of a lost peer, and nothing that waits long. */
  lowLatency: {
    ...production,
    ping: 'interval',
    heartbeatMs: 2000,
    livenessMs: 3000,
    stallMs: 5000,
    window: 64,
    waitingCommands: 32,
    waitingBytes: mebibyte,
  },
} as const satisfies Record<string, Tuning>;

export type PresetName = keyof typeof presets;
