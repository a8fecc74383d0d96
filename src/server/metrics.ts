import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { Observe, OtherFact, ServerFact } from './facts.ts';

/** What is asked when metrics are read, rather than counted as it happens. */
export interface MetricReadings {
  /** Queued commands that are not terminal. */
  mailboxDepth?: () => number | Promise<number>;
  /** Bytes that wait for devices. */
  outboxBytes?: () => number;
  /** Open event streams of browsers. */
  watchers?: () => number;
}

export interface Metrics {
  readonly registry: Registry;
  readonly observe: Observe;
  /** The Prometheus text and its content type. */
  readonly contentType: string;
  render(): Promise<string>;
  /** Stops the measuring of the event loop. */
  close(): void;
}

/**
 * Facts as Prometheus metrics, in a registry of their own. Label values are out of fixed sets, everything else counts
 * as `other`: what clients choose (ids, types, codes of devices) never becomes a label.
 */
export function serverMetrics(readings: MetricReadings = {}): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Counter({ name: `signalbox_${name}`, help, labelNames, registers });
  const seconds = <L extends string>(name: string, help: string, buckets: number[], ...labelNames: L[]) =>
    new Histogram({ name: `signalbox_${name}`, help, labelNames, buckets, registers });
  const reading = (name: string, help: string, read: () => number | Promise<number>) =>
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        this.set(await read());
      },
    });

  const accepted = counter('commands_accepted_total', 'Commands accepted', 'kind');
  const refused = counter('commands_refused_total', 'Commands refused before acceptance', 'code');
  const ended = counter('commands_ended_total', 'Commands ended', 'kind', 'state');
  const delivered = seconds('command_delivered_seconds', 'From acceptance to delivery', fast);
  const took = seconds('command_ended_seconds', 'From acceptance to the end', slow, 'kind');
  const sessions = new Gauge({ name: 'signalbox_sessions', help: 'Open sessions of devices', registers });
  const opened = counter('sessions_opened_total', 'Sessions opened', 'resumed');
  const closed = counter('sessions_closed_total', 'Sessions closed', 'reason');
  const turnedAway = counter('sessions_refused_total', 'Streams that never became a session', 'reason');
  const contended = counter('clients_contended_total', 'Fights of two devices for one client id');
  const ping = seconds('ping_seconds', 'Round trips to devices', fast);
  const ignored = counter('frames_ignored_total', 'Frames that changed nothing', 'code');
  const storeFailures = counter('store_failures_total', 'Writes or reads that the store refused', 'operation');
  const calls = counter('grpc_calls_failed_total', 'gRPC calls that failed', 'code');
  const connections = counter('grpc_connections_refused_total', 'Connections refused', 'reason');
  const drops = counter('drops_total', 'Peers or data given up to protect the others', 'what');
  const requests = counter('http_requests_total', 'Answered HTTP requests', 'status');
  const watchersClosed = counter('watchers_closed_total', 'Event streams closed', 'reason');
  const leases = counter('leases_total', 'Leases refused, lost, or troubled by their store', 'what');
  const runsTriggered = counter('runs_triggered_total', 'Runs of tasks triggered');
  const runsEnded = counter('runs_ended_total', 'Runs of tasks ended', 'state');
  const runsAgain = counter('runs_again_total', 'Attempts that failed or were lost', 'why');
  const runWaited = seconds('run_waited_seconds', 'From when a run is due to its start', fast);
  const runTook = seconds('run_ended_seconds', 'From trigger to end of a run', slow);
  const routed = counter('commands_routed_total', 'Commands that took a hop to another node');
  const relocated = counter('commands_relocated_total', 'Commands looked for again, as a client or node had moved');
  const moved = counter('clients_moved_total', 'Clients that came from another node');
  const nodeTrouble = counter('node_trouble_total', 'Trouble with other nodes or their directory', 'what');
  const redisTrouble = counter('redis_trouble_total', 'Trouble with Redis', 'what');
  const others = counter('other_facts_total', 'Facts that have no metric of their own');

  if (readings.mailboxDepth) reading('signalbox_mailbox_commands', 'Queued commands not ended', readings.mailboxDepth);
  if (readings.outboxBytes) reading('signalbox_outbox_bytes', 'Bytes that wait for devices', readings.outboxBytes);
  if (readings.watchers) reading('signalbox_watchers', 'Open event streams', readings.watchers);
  const lag = monitorEventLoopDelay({ resolution: 20 });
  lag.enable();
  new Gauge({
    name: 'signalbox_event_loop_lag_seconds',
    help: 'Delay of the event loop since the last reading',
    labelNames: ['quantile'],
    registers,
    collect() {
      // Without a sample there is no percentile; the histogram then says 0 (or NaN for the mean).
      this.set({ quantile: '0.5' }, lag.percentile(50) / 1e9);
      this.set({ quantile: '0.99' }, lag.percentile(99) / 1e9);
      this.set({ quantile: '1' }, lag.count === 0 ? 0 : lag.max / 1e9);
      lag.reset();
    },
  });
  reading('process_resident_memory_bytes', 'Resident memory', () => process.memoryUsage.rss());
  reading('process_cpu_seconds', 'CPU time used', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });

  const observe = (either: ServerFact | OtherFact): void => {
    const fact = either as ServerFact;
    switch (fact.kind) {
      case 'session-opened':
        sessions.inc();
        opened.inc({ resumed: String(fact.resumed === true) });
        return;
      case 'session-closed':
        sessions.dec();
        closed.inc({ reason: word(fact.reason, reasons) });
        if (fact.reason === 'slow-consumer' || fact.reason === 'overloaded') drops.inc({ what: 'device' });
        return;
      case 'session-refused':
        turnedAway.inc({ reason: word(fact.reason, reasons) });
        return;
      case 'client-contended':
        contended.inc();
        return;
      case 'ping':
        ping.observe(fact.roundTripMs / 1000);
        return;
      case 'command-accepted':
        accepted.inc({ kind: kind(fact) });
        return;
      case 'command-refused':
        refused.inc({ code: word(fact.code, codes) });
        return;
      case 'command-delivered':
        delivered.observe(fact.afterMs / 1000);
        return;
      case 'command-ended':
        ended.inc({ kind: kind(fact), state: word(fact.state, states) });
        took.observe({ kind: kind(fact) }, fact.afterMs / 1000);
        return;
      case 'frame-ignored':
        ignored.inc({ code: word(fact.code, codes) });
        return;
      case 'store-failed':
        storeFailures.inc({ operation: word(fact.operation, operations) });
        return;
      case 'grpc-call-failed':
        calls.inc({ code: word(fact.code, codes) });
        return;
      case 'grpc-connection-refused':
        connections.inc({ reason: word(fact.reason, refusals) });
        return;
      case 'grpc-stream-reset':
        drops.inc({ what: 'stream' });
        return;
      case 'request-ended':
        requests.inc({ status: `${Math.floor(fact.status / 100)}xx` });
        return;
      case 'request-failed':
        requests.inc({ status: '5xx' });
        return;
      case 'stream-closed':
        watchersClosed.inc({ reason: word(fact.reason, streamEnds) });
        if (fact.reason === 'stalled') drops.inc({ what: 'watcher' });
        return;
      case 'event-log-failed':
        storeFailures.inc({ operation: 'read events' });
        return;
      case 'disk-failed':
        storeFailures.inc({ operation: `disk ${fact.state}` });
        return;
      case 'disk-trouble':
        storeFailures.inc({ operation: 'prune' });
        return;
      case 'lease-refused':
      case 'lease-lost':
      case 'lease-store-failed':
        leases.inc({ what: fact.kind.slice('lease-'.length) });
        return;
      case 'archive-dropped':
        drops.inc({ what: 'archive' }, fact.count);
        return;
      case 'archive-failed':
        storeFailures.inc({ operation: 'archive' });
        return;
      case 'run-triggered':
        runsTriggered.inc();
        return;
      case 'run-started':
        runWaited.observe(fact.waitedMs / 1000);
        return;
      case 'run-ended':
        runsEnded.inc({ state: fact.state });
        runTook.observe(fact.afterMs / 1000);
        return;
      case 'run-retried':
        runsAgain.inc({ why: 'failed' });
        return;
      case 'run-lost':
        runsAgain.inc({ why: 'lost' });
        return;
      case 'tasks-failed':
        storeFailures.inc({ operation: word(fact.operation, operations) });
        return;
      case 'command-routed':
        routed.inc();
        return;
      case 'command-relocated':
        relocated.inc();
        return;
      case 'client-moved':
        moved.inc();
        return;
      case 'node-lapsed':
      case 'node-renew-failed':
      case 'yield-failed':
        nodeTrouble.inc({ what: fact.kind });
        return;
      case 'redis-lost':
      case 'redis-emptied':
      case 'redis-trouble':
        redisTrouble.inc({ what: fact.kind });
        return;
      case 'redis-awaited':
      case 'redis-back':
      case 'redis-advice':
      case 'node-joined':
      case 'disk-recovered':
      case 'stream-opened':
      case 'gateway-listening':
      case 'grpc-listening':
      case 'grpc-closed':
      case 'server-ready':
      case 'server-open':
      case 'server-advice':
      case 'server-draining':
      case 'server-closed':
      case 'server-close-failed':
        return;
      default:
        fact satisfies never;
        others.inc();
    }
  };

  return {
    registry,
    observe,
    contentType: registry.contentType,
    render: () => registry.metrics(),
    close: () => lag.disable(),
  };
}

const fast = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const slow = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60, 600, 3600];

const states = new Set(['succeeded', 'failed', 'rejected', 'cancelled', 'expired', 'unknown']);
const refusals = new Set(['not-http2', 'silent', 'tls', 'too-many']);
const operations = new Set([
  'keep an event',
  'read the mailbox',
  'mark commands as sent',
  'store the end of a command',
  'note that a command is delivered',
  'note that a command is started',
  'look for commands whose time is over',
  'claim runs',
  'renew claims',
  'settle a run',
  'announce the end of a run',
  'tell of an attempt',
  'sweep',
]);
const streamEnds = new Set([
  'left',
  'finished',
  'stalled',
  'idle',
  'expired',
  'lease-lost',
  'draining',
  'log-failed',
  'closed-by-gateway',
]);
const reasons = new Set([
  'disconnected',
  'lost',
  'taken-over',
  'draining',
  'protocol-error',
  'unauthenticated',
  'slow-consumer',
  'liveness',
  'overloaded',
]);
const codes = new Set([
  'invalid-argument',
  'unauthenticated',
  'permission-denied',
  'not-found',
  'client-offline',
  'mailbox-full',
  'stream-limit-exceeded',
  'idempotency-conflict',
  'deadline-exceeded',
  'resource-exhausted',
  'unavailable',
  'unimplemented',
  'internal',
]);

const word = (value: string, allowed: ReadonlySet<string>): string => (allowed.has(value) ? value : 'other');
const kind = (fact: { queued: boolean }): string => (fact.queued ? 'queued' : 'live');
