import { type Logger, pino } from 'pino';
import type { Observe, OtherFact, ServerFact } from './facts.ts';
import type { Tuning } from './presets.ts';
import { printable } from './printable.ts';

/** Where log lines go; a terminal gets them for people, everything else one JSON object a line. */
export interface LogDestination {
  readonly isTTY?: boolean | undefined;
  write(text: string): unknown;
}

export interface Logs {
  readonly logger: Logger;
  readonly observe: Observe;
}

type Level = 'debug' | 'info' | 'warn' | 'error';

/** Facts as log lines. Facts hold no secrets; should a part ever slip, the usual names of secrets are blanked. */
export function serverLogs({
  level = 'info',
  destination = process.stderr,
}: {
  level?: Tuning['logLevel'];
  destination?: LogDestination;
} = {}): Logs {
  const logger = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secrets.flatMap((name) => [name, `*.${name}`]), censor: '[secret]' },
    },
    destination.isTTY ? forPeople(destination) : { write: (line: string) => void destination.write(line) },
  );
  return {
    logger,
    observe(fact) {
      const at = levelOf(fact);
      // Hot facts (pings, ends of commands) cost nothing while nobody reads them.
      if (!logger.isLevelEnabled(at)) return;
      const { cause, ...rest } = fact as OtherFact & { cause?: unknown };
      logger[at](cause === undefined ? rest : { ...rest, err: cause }, fact.kind);
    },
  };
}

/** Hands on the log lines of another process: for people, with the name of its node, where a terminal shows them. */
export function logLines({ destination, node }: { destination: LogDestination; node: string }): (line: string) => void {
  const people = forPeople(destination, `${node}  `);
  return (line) => {
    if (destination.isTTY && line.startsWith('{')) people.write(line);
    else destination.write(`${line}\n`);
  };
}

const secrets = ['token', 'secret', 'password', 'authorization', 'cookie', 'bearer', 'ticket', 'privateKey'];

const levels: Record<ServerFact['kind'], Level> = {
  'session-opened': 'info',
  'session-closed': 'info',
  'session-refused': 'warn',
  'client-contended': 'warn',
  ping: 'debug',
  'command-accepted': 'debug',
  'command-refused': 'info',
  'command-delivered': 'debug',
  'command-ended': 'debug',
  'frame-ignored': 'info',
  'store-failed': 'error',
  'grpc-listening': 'info',
  'grpc-connection-refused': 'warn',
  'grpc-call-failed': 'info',
  'grpc-stream-reset': 'warn',
  'grpc-closed': 'debug',
  'gateway-listening': 'info',
  'request-ended': 'debug',
  'request-failed': 'error',
  'stream-opened': 'debug',
  'stream-closed': 'debug',
  'event-log-failed': 'error',
  'lease-refused': 'info',
  'lease-lost': 'warn',
  'lease-store-failed': 'warn',
  'archive-dropped': 'error',
  'archive-failed': 'warn',
  'run-triggered': 'debug',
  'run-started': 'debug',
  'run-retried': 'info',
  'run-ended': 'debug',
  'run-lost': 'warn',
  'tasks-failed': 'error',
  'disk-failed': 'error',
  'disk-recovered': 'warn',
  'disk-trouble': 'error',
  'node-joined': 'info',
  'node-renew-failed': 'warn',
  'node-lapsed': 'warn',
  'client-moved': 'debug',
  'yield-failed': 'warn',
  'command-routed': 'debug',
  'command-relocated': 'debug',
  'redis-awaited': 'warn',
  'redis-lost': 'error',
  'redis-back': 'warn',
  'redis-emptied': 'error',
  'redis-advice': 'warn',
  'redis-trouble': 'warn',
  'server-ready': 'info',
  'server-open': 'warn',
  'server-advice': 'warn',
  'server-draining': 'info',
  'server-closed': 'info',
  'server-close-failed': 'error',
};

function levelOf(fact: ServerFact | OtherFact): Level {
  if ('code' in fact && fact.code === 'internal') return 'error';
  if (Object.hasOwn(levels, fact.kind)) return levels[fact.kind as ServerFact['kind']];
  return /failed|error/.test(fact.kind) ? 'error' : /refused|dropped|slow|stalled/.test(fact.kind) ? 'warn' : 'info';
}

const colours: Record<string, string> = { debug: '\x1b[90m', warn: '\x1b[33m', error: '\x1b[31m', fatal: '\x1b[31m' };

function forPeople(destination: LogDestination, prefix = ''): { write(line: string): void } {
  return {
    write(line) {
      const { level, time, msg, kind: _kind, ...fields } = JSON.parse(line) as Record<string, unknown>;
      const words = Object.entries(fields).map(([name, value]) => `${name}=${visible(value)}`);
      const text = [`${prefix}${String(time).slice(11, 23)}`, String(level).padEnd(5), visible(msg), ...words].join(
        ' ',
      );
      destination.write(`${colours[String(level)] ?? ''}${text}${colours[String(level)] ? '\x1b[0m' : ''}\n`);
    },
  };
}

function visible(value: unknown): string {
  return printable(typeof value === 'string' && /^[\w.:/@[\]-]+$/.test(value) ? value : JSON.stringify(value));
}
