import type { EventGap, LogEvent } from './event-log.ts';
import { eventJson } from './kept-event.ts';

/** Tells a reader in the place of events that they are not there: `hub.gap` with their numbers, or `hub.reset`. */
export class GapNotice implements LogEvent {
  readonly channel: string;
  readonly epoch: number;
  readonly gap: EventGap;
  encoded: Buffer | undefined = undefined;

  constructor(channel: string, epoch: number, gap: EventGap) {
    this.channel = channel;
    this.epoch = gap.kind === 'gap' ? gap.epoch : epoch;
    this.gap = gap;
  }

  get type(): 'hub.gap' | 'hub.reset' {
    return this.gap.kind === 'gap' ? 'hub.gap' : 'hub.reset';
  }

  /** The last number that is missing; 0 where numbers begin anew. */
  get seq(): number {
    return this.gap.kind === 'gap' ? this.gap.to : 0;
  }

  /** It stands for no moment. */
  get atMs(): number {
    return 0;
  }

  json(): string {
    return eventJson(this, this.dataJson());
  }

  dataJson(): string {
    const { gap } = this;
    return JSON.stringify(gap.kind === 'gap' ? { from: gap.from, to: gap.to } : { reason: gap.reason });
  }
}
