import { HubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { encodeMessage } from '../protocol/codec.ts';
import type { Payload, Progress } from '../protocol/command.ts';
import { progressToProto } from '../protocol/convert.ts';
import { CommandProgress, Started } from '../protocol/gen/signalbox/v1/device.ts';
import type { Job, JobHost } from './job.ts';
import type { Outbox } from './outbox.ts';

export interface ReportsOptions {
  readonly outbox: Outbox;
  readonly clock: Clock;
  readonly emit: JobHost['emit'];
}

/** Milliseconds between two progress reports of one command. */
const progressEveryMs = 100;

/** What running commands tell on their way: that they have started, how far they are, and items of their answers. */
export class Reports implements JobHost {
  readonly clock: Clock;
  readonly emit: JobHost['emit'];
  readonly #outbox: Outbox;
  readonly #waitsForRoom = new Map<Job, () => void>();

  constructor({ outbox, clock, emit }: ReportsOptions) {
    this.#outbox = outbox;
    this.clock = clock;
    this.emit = emit;
  }

  /** Tells that it runs, unless something else has said so. */
  started(job: Job): void {
    if (job.isAnnounced) return;
    job.isAnnounced = true;
    const body = encodeMessage(Started, { commandId: job.commandId });
    this.#outbox.offer({ kind: 'started', subject: job.commandId, body });
  }

  progressed(job: Job): void {
    if (job.letGoOfProgress) return;
    const wait = job.progressAt + progressEveryMs - this.clock.monotonic();
    if (wait <= 0 && !this.#outbox.isBusy) {
      this.#tellProgress(job);
      return;
    }
    job.letGoOfProgress = this.clock.after(wait > 0 ? wait : progressEveryMs, () => {
      job.letGoOfProgress = undefined;
      if (job.phase === 'running' && job.progressDue) this.progressed(job);
    });
  }

  item(job: Job, item: Payload): Promise<void> | undefined {
    if (job.phase !== 'running') return undefined;
    this.#tellProgress(job);
    const body = encodeProgress(job.commandId, { item });
    if (!this.#outbox.fits(body))
      throw new HubError(
        'resource-exhausted',
        `an item of ${body.length} bytes does not fit: the hub takes ${this.#outbox.maxFrameBytes}`,
      );
    job.isAnnounced = true;
    this.#outbox.offer({ kind: 'item', subject: job.commandId, body });
    if (!this.#outbox.isFull || job.stop) return undefined;
    return new Promise((resolve) => {
      this.#waitsForRoom.set(job, resolve);
    });
  }

  /** It is about to end well or badly: the last progress is told before, if the wire takes it. */
  ending(job: Job): void {
    if (!this.#outbox.isBusy) this.#tellProgress(job);
  }

  /** It waits for room no longer: there is some, or it has to stop. */
  wake(job: Job): void {
    const resolve = this.#waitsForRoom.get(job);
    if (!resolve) return;
    this.#waitsForRoom.delete(job);
    resolve();
  }

  /** There is room in the outbox again. */
  onRoom(): void {
    for (const job of [...this.#waitsForRoom.keys()]) this.wake(job);
  }

  #tellProgress(job: Job): void {
    if (!job.progressDue) return;
    const body = encodeProgress(job.commandId, job.progressDue);
    job.progressDue = undefined;
    job.progressAt = this.clock.monotonic();
    job.isAnnounced = true;
    this.#outbox.offer({ kind: 'progress', subject: job.commandId, body });
  }
}

function encodeProgress(commandId: string, progress: Progress): Uint8Array {
  return encodeMessage(CommandProgress, { commandId, progress: progressToProto(progress) });
}
