import { HubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { progressFault } from '../protocol/checks.ts';
import type { Payload, Progress } from '../protocol/command.ts';
import type { DeviceCommand } from '../protocol/gen/signalbox/v1/device.ts';
import type { ItemContext } from './handlers.ts';

/** Where what a handler tells goes. */
export interface JobHost {
  readonly clock: Clock;
  /** Bound. */
  readonly emit: (name: string, data?: unknown) => Promise<void>;
  item(job: Job, payload: Payload): Promise<void> | undefined;
  /** There is a progress to be told. */
  progressed(job: Job): void;
}

/** Why a job was asked to stop. Whatever its handler does then, this is how the command ends. */
export type Stop = { readonly kind: 'cancelled' | 'timed-out'; readonly message: string };

/** One command on its way through the device; to its handler it is the context. */
export class Job implements ItemContext {
  readonly command: DeviceCommand;
  /** Monotonic ms. */
  readonly receivedAt: number;
  /** Orders commands by arrival. */
  readonly position: number;
  readonly emit: JobHost['emit'];
  phase: 'waiting' | 'beginning' | 'running' | 'ended' = 'waiting';
  stop: Stop | undefined;
  /** True once the hub was told that it runs. */
  isAnnounced = false;
  /** The newest progress that is not told yet, and when the last one was told. */
  progressDue: Progress | undefined;
  progressAt = Number.NEGATIVE_INFINITY;
  letGoOfStart: (() => void) | undefined;
  letGoOfFinish: (() => void) | undefined;
  letGoOfProgress: (() => void) | undefined;
  readonly #host: JobHost;
  #controller: AbortController | undefined;
  #progress: ItemContext['progress'] | undefined;
  #abortReason: unknown;

  constructor(command: DeviceCommand, position: number, host: JobHost) {
    this.command = command;
    this.position = position;
    this.#host = host;
    this.emit = host.emit;
    this.receivedAt = host.clock.monotonic();
  }

  get commandId(): string {
    return this.command.id;
  }

  get type(): string {
    return this.command.payload?.type ?? '';
  }

  get key(): string {
    return this.command.orderingKey;
  }

  get traceparent(): string | undefined {
    return this.command.traceparent || undefined;
  }

  get deadlineMs(): number | undefined {
    const { finishWithinMs } = this.command;
    if (finishWithinMs === 0) return undefined;
    const { clock } = this.#host;
    return clock.now() + finishWithinMs - (clock.monotonic() - this.receivedAt);
  }

  /** Made on first use: most commands end before anybody looks. */
  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController();
      if (this.#abortReason !== undefined) this.#controller.abort(this.#abortReason);
    }
    return this.#controller.signal;
  }

  abort(reason: HubError): void {
    this.#abortReason ??= reason;
    this.#controller?.abort(this.#abortReason);
  }

  /** Bound, so that handlers may take it out of the context: `({ signal, progress }) => ...`. Made on first use, too. */
  get progress(): ItemContext['progress'] {
    this.#progress ??= (progress) => this.#tellProgress(progress);
    return this.#progress;
  }

  item(payload: Payload): Promise<void> | undefined {
    return this.#host.item(this, payload);
  }

  end(): void {
    this.phase = 'ended';
    this.letGo();
  }

  /** Frees its timers. */
  letGo(): void {
    this.letGoOfStart?.();
    this.letGoOfFinish?.();
    this.letGoOfProgress?.();
  }

  #tellProgress(progress: Progress): void {
    const { fraction, note } = progress;
    const fault =
      (fraction !== undefined && typeof fraction !== 'number') || (note !== undefined && typeof note !== 'string')
        ? `progress ${JSON.stringify({ fraction, note })} is not a number and a text`
        : progressFault(progress);
    if (fault !== undefined) throw new HubError('invalid-argument', fault, { commandId: this.commandId });
    if (this.phase !== 'running') return;
    this.progressDue = { fraction, note };
    this.#host.progressed(this);
  }
}
