/** One event of a `text/event-stream`. */
export interface SseMessage {
  /** The newest id that the stream gave, on this event or an earlier one; empty if it gave none. */
  readonly id: string;
  /** The event's name; `message` if it has none. */
  readonly event: string;
  /** Undefined for no event at all: only the id has moved. */
  readonly data: string | undefined;
}

export interface SseParserOptions {
  /** Hears of a `retry:` field: how long to wait before connecting again, in ms. */
  onRetry?: (ms: number) => void;
  /** UTF-16 units that one event may have, its field names included. Default: 4 Mi. */
  maxEventLength?: number;
}

/**
 * Turns the bytes of an event stream into its events, as the HTML standard says: lines end with CR, LF or CRLF, a BOM
 * at the start is skipped, several `data` lines are one text, an event that is cut off by the end is none.
 * Bytes may be split anywhere.
 */
export class SseParser {
  readonly #onRetry: (ms: number) => void;
  readonly #maxEventLength: number;
  readonly #decoder = new TextDecoder(); // skips the BOM, keeps what is split, replaces what is not UTF-8
  #line = '';
  #afterCr = false;
  #id = '';
  #lastId = '';
  #event = '';
  #data = '';
  #length = 0;

  constructor({ onRetry = () => undefined, maxEventLength = 4 * 1024 * 1024 }: SseParserOptions = {}) {
    this.#onRetry = onRetry;
    this.#maxEventLength = maxEventLength;
  }

  /** The events that these bytes complete. Throws a `RangeError` when one grows beyond its limit. */
  feed(bytes: Uint8Array): SseMessage[] {
    const messages: SseMessage[] = [];
    const text = this.#decoder.decode(bytes, { stream: true });
    if (text === '') return messages;
    let start = this.#afterCr && text.startsWith('\n') ? 1 : 0; // the second half of a CRLF
    this.#afterCr = false;
    for (let at = start; at < text.length; at += 1) {
      const unit = text.charCodeAt(at);
      if (unit !== 10 && unit !== 13) continue;
      this.#takeLine(this.#line + text.slice(start, at), messages);
      this.#line = '';
      if (unit === 13) {
        if (at + 1 === text.length) this.#afterCr = true;
        else if (text.charCodeAt(at + 1) === 10) at += 1;
      }
      start = at + 1;
    }
    this.#line += text.slice(start);
    this.#checkLength(this.#line.length);
    return messages;
  }

  #takeLine(line: string, messages: SseMessage[]): void {
    if (line === '') {
      this.#dispatch(messages);
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) return; // a comment: a sign of life, no more
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line.charCodeAt(colon + 1) === 32 ? colon + 2 : colon + 1);
    switch (field) {
      case 'data':
        this.#length += line.length;
        this.#checkLength(0);
        this.#data += `${value}\n`;
        return;
      case 'event':
        this.#event = value;
        return;
      case 'id':
        if (!value.includes('\0')) this.#id = value;
        return;
      case 'retry':
        if (/^\d{1,9}$/.test(value)) this.#onRetry(Number(value));
        return;
      default:
      // Fields that are not known are skipped, so that the format can grow.
    }
  }

  #dispatch(messages: SseMessage[]): void {
    const id = this.#id;
    const event = this.#event || 'message';
    const data = this.#data === '' ? undefined : this.#data.slice(0, -1);
    this.#event = '';
    this.#data = '';
    this.#length = 0;
    if (data !== undefined || id !== this.#lastId) messages.push({ id, event, data });
    this.#lastId = id;
  }

  #checkLength(more: number): void {
    if (this.#length + more > this.#maxEventLength)
      throw new RangeError(`an event has more than ${this.#maxEventLength} characters`);
  }
}
