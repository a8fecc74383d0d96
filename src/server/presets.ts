/** How a hub is tuned. Every value has the default of `presets.production`. */
export interface Tuning {
  /** How silent peers are found: a ping every `heartbeatMs`, only after as much silence, or never (then a lost peer
   *  is noticed by TCP alone). */
  readonly pingStrategy: 'interval' | 'idle' | 'off';
  /** Time between pings, in ms. */
  readonly heartbeatMs: number;
  /** Silence after which a peer counts as lost, in ms. */
  readonly livenessMs: number;
  /** Frames that may wait for one device before its stream is closed. */
  readonly queueSize: number;
  /** Bytes that may wait for one device. */
  readonly queueBytes: number;
  /** Commands that may wait in the mailbox of one client. */
  readonly mailboxSize: number;
  /** A live command's whole life where its caller says nothing, in ms. */
  readonly commandTimeoutMs: number;
  /** A queued command's time to live where its caller says nothing, in ms. */
  readonly commandTtlMs: number;
  /** Level of the log. */
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
}

const production: Tuning = {
  pingStrategy: 'interval',
  heartbeatMs: 15_000,
  livenessMs: 45_000,
  queueSize: 1024,
  queueBytes: 4 * 1024 * 1024,
  mailboxSize: 1000,
  commandTimeoutMs: 30_000,
  commandTtlMs: 24 * 60 * 60 * 1000,
  logLevel: 'info',
};

/** Tunings by name; `preset: 'development'` in the options, and single values beside it win over it. */
export const presets = {
  /** For devices on real networks. */
  production,
  /** Long patience for breakpoints, and a talkative log. */
  development: {
    ...production,
    livenessMs: 300_000,
    heartbeatMs: 30_000,
    commandTimeoutMs: 300_000,
    logLevel: 'debug',
  },
  /** Short waits and silence. */
  test: {
    ...production,
    heartbeatMs: 1000,
    livenessMs: 3000,
    queueSize: 64,
    mailboxSize: 100,
    commandTimeoutMs: 5000,
    commandTtlMs: 60_000,
    logLevel: 'silent',
  },
  /** Deep queues, pings only where nothing else is said. */
  highThroughput: {
    ...production,
    pingStrategy: 'idle',
    heartbeatMs: 30_000,
    livenessMs: 90_000,
    queueSize: 8192,
    queueBytes: 32 * 1024 * 1024,
    mailboxSize: 10_000,
    logLevel: 'warn',
  },
  /** Shallow queues and early notice of a lost peer. */
  lowLatency: {
    ...production,
    heartbeatMs: 2000,
    livenessMs: 6000,
    queueSize: 128,
    queueBytes: 1024 * 1024,
    commandTimeoutMs: 5000,
  },
} as const satisfies Record<string, Tuning>;

export type PresetName = keyof typeof presets;
