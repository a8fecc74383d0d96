import { HubError } from '../errors.ts';
import { channelName } from './channels.ts';
import type { LogEvent, NewEvent } from './event-log.ts';
import { JsonText } from './json-text.ts';

/** What an event costs beside its data, and what its data is taken to cost until it is encoded. */
export const overheadBytes = 160;
const unknownDataBytes = 256;

/** What an event knows of the channel that keeps it. */
interface Keeper {
  readonly key: string;
  readonly epoch: number;
  bytes: number;
}

/** An event in the memory of a log. Its JSON is made when somebody first asks for it. */
export class KeptEvent implements LogEvent {
  readonly #keeper: Keeper;
  readonly seq: number;
  readonly type: string;
  readonly atMs: number;
  /** By the log's clock, in seconds from its start (not by the event's source): what retention by age goes by. */
  readonly keptAt: number;
  /** `pending` is still being stored, `lost` could not be stored: its number is a hole. */
  state: 'kept' | 'pending' | 'lost';
  bytes: number;
  encoded: Buffer | undefined = undefined;
  #data: unknown;
  #dataJson: string | undefined = undefined;
  #json: string | undefined = undefined;

  constructor(keeper: Keeper, seq: number, event: NewEvent, keptAt: number, state: 'kept' | 'pending') {
    this.#keeper = keeper;
    this.seq = seq;
    this.type = event.type;
    this.atMs = event.atMs;
    this.keptAt = keptAt;
    this.state = state;
    this.bytes = overheadBytes + (event.bytes ?? unknownDataBytes);
    this.#data = event.data;
  }

  get channel(): string {
    return this.#keeper.key;
  }

  get epoch(): number {
    return this.#keeper.epoch;
  }

  json(): string {
    if (this.#json === undefined) {
      this.#json = eventJson(this, this.dataJson());
      this.#grow(this.#json.length);
    }
    return this.#json;
  }

  dataJson(): string {
    if (this.#dataJson === undefined) {
      this.#dataJson = readableJson(this.#data);
      // Text that came as it is was counted when it came.
      if (!(this.#data instanceof JsonText)) this.#grow(this.#dataJson.length);
      this.#data = undefined;
    }
    return this.#dataJson;
  }

  /** Takes over data that was encoded before it had a number. */
  useDataJson(json: string): void {
    this.#dataJson = json;
    this.#data = undefined;
    this.#grow(json.length);
  }

  #grow(bytes: number): void {
    this.bytes += bytes;
    this.#keeper.bytes += bytes;
  }
}

/** An event as it was read back from a store. */
export function storedEvent(
  channel: string,
  epoch: number,
  seq: number,
  type: string,
  atMs: number,
  data: string,
): LogEvent {
  let json: string | undefined;
  const event: LogEvent = {
    channel,
    epoch,
    seq,
    type,
    atMs,
    encoded: undefined,
    json: () => (json ??= eventJson(event, data)),
    dataJson: () => data,
  };
  return event;
}

/** An event as one line of JSON around its data. */
export function eventJson(event: Pick<LogEvent, 'channel' | 'epoch' | 'seq' | 'type' | 'atMs'>, data: string): string {
  const channel = JSON.stringify(channelName(event.channel));
  return `{"channel":${channel},"epoch":${event.epoch},"seq":${event.seq},"type":${JSON.stringify(event.type)},"at":"${isoTime(event.atMs)}","data":${data}}`;
}

/** Throws what `JSON.stringify` or the data's own function throws. */
function dataJson(data: unknown): string {
  if (data instanceof JsonText) return data.text;
  return JSON.stringify(typeof data === 'function' ? data() : data) ?? 'null';
}

/** The data of an event that is to be stored. Throws `invalid-argument` where its time or its data cannot be kept. */
export function storableJson(event: NewEvent): string {
  const { type, atMs, data } = event;
  if (!Number.isFinite(atMs)) throw new HubError('invalid-argument', `${atMs} is not a time of event ${type}`);
  try {
    return dataJson(data);
  } catch (error) {
    const message = `data of event ${type} is no JSON: ${error instanceof Error ? error.message : error}`;
    throw new HubError('invalid-argument', message, { cause: error });
  }
}

/** A reader is not to blame for data that is no JSON, and must not fall over it. */
export function readableJson(data: unknown): string {
  try {
    return dataJson(data);
  } catch (error) {
    return JSON.stringify({ unreadable: String(error) });
  }
}

/** Sources may claim any time; what no calendar has becomes 1970. */
function isoTime(ms: number): string {
  return new Date(Math.abs(ms) <= 8.64e15 ? ms : 0).toISOString();
}
