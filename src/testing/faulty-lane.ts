import type { Socket } from 'node:net';

/** What goes wrong in one direction of a connection. */
export interface LaneFaults {
  /** Bytes arrive this many ms later. Default: 0. */
  readonly latencyMs?: number | undefined;
  /** And up to this many more, by chance; the order is kept. Default: 0. */
  readonly jitterMs?: number | undefined;
  /** Bytes per second that pass. Default: no limit. */
  readonly bytesPerSecond?: number | undefined;
  /** Bytes are handed on in pieces of 1 to this many, each by itself; 1: byte by byte. Default: as they come. */
  readonly sliceBytes?: number | undefined;
  /** The connection is reset after exactly this many bytes, or a number drawn between the two. Default: never. */
  readonly cutAfterBytes?: number | readonly [number, number] | undefined;
}

interface LaneHost {
  readonly random: () => number;
  moved(bytes: number): void;
  swallowed(bytes: number): void;
  cutDue(): void;
}

/** Held back here at most, before the sender is made to wait. */
const maxHeldBytes = 256 * 1024;

/** Carries bytes from one socket to another, with faults. */
export class FaultyLane {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #host: LaneHost;
  #faults: LaneFaults;
  /** Bytes until the cut. */
  #untilCut: number;
  #held: { readonly bytes: Buffer; readonly at: number }[] = [];
  #heldBytes = 0;
  #newestAt = 0;
  #freeAt = 0;
  #hasEnded = false;
  #isPaused = false;
  #isBlocked = false;
  #timer: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;
  isSwallowing = false;
  hasLost = false;

  constructor(from: Socket, to: Socket, faults: LaneFaults, host: LaneHost) {
    this.#from = from;
    this.#to = to;
    this.#faults = faults;
    this.#host = host;
    const { cutAfterBytes: cut } = faults;
    this.#untilCut =
      cut === undefined
        ? Number.POSITIVE_INFINITY
        : typeof cut === 'number'
          ? cut
          : Math.floor(cut[0] + host.random() * (cut[1] - cut[0] + 1));
    from.on('data', (bytes: Buffer) => this.#take(bytes));
    from.on('end', () => {
      this.#hasEnded = true;
      this.#move();
    });
    to.on('drain', () => {
      this.#isBlocked = false;
      this.#move();
    });
  }

  setFaults(faults: LaneFaults): void {
    this.#faults = faults;
  }

  pause(): void {
    this.#isPaused = true;
    this.#from.pause();
  }

  resume(): void {
    this.#isPaused = false;
    this.#move();
  }

  swallow(): void {
    this.isSwallowing = true;
    this.#lose(this.#heldBytes);
    this.#held = [];
    this.#heldBytes = 0;
    if (!this.#isPaused) this.#from.resume();
  }

  heal(): void {
    this.isSwallowing = false;
    this.#move();
  }

  close(): void {
    clearTimeout(this.#timer);
    clearImmediate(this.#immediate);
    this.#held = [];
  }

  #take(bytes: Buffer): void {
    if (this.isSwallowing) {
      this.#lose(bytes.length);
      return;
    }
    const { latencyMs = 0, jitterMs = 0 } = this.#faults;
    const at = performance.now() + latencyMs + (jitterMs > 0 ? this.#host.random() * jitterMs : 0);
    this.#newestAt = Math.max(this.#newestAt, at);
    this.#held.push({ bytes, at: this.#newestAt });
    this.#heldBytes += bytes.length;
    if (this.#heldBytes >= maxHeldBytes) this.#from.pause();
    this.#move();
  }

  #lose(bytes: number): void {
    if (bytes === 0) return;
    this.hasLost = true;
    this.#host.swallowed(bytes);
  }

  /** Hands on what is due. */
  #move(): void {
    if (this.#timer || this.#immediate || this.#isPaused || this.#isBlocked || this.isSwallowing) return;
    for (;;) {
      const first = this.#held[0];
      if (!first) break;
      const waitMs = Math.max(first.at, this.#freeAt) - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => {
          this.#timer = undefined;
          this.#move();
        }, waitMs);
        return;
      }
      this.#hand(first);
      if (this.#untilCut <= 0) {
        this.#host.cutDue();
        return;
      }
      if (this.#isBlocked) return;
      if (this.#faults.sliceBytes !== undefined && this.#held.length > 0) {
        // In a turn of its own, so that the other end gets it as a piece of its own.
        this.#immediate = setImmediate(() => {
          this.#immediate = undefined;
          this.#move();
        });
        return;
      }
    }
    if (this.#hasEnded) this.#to.end();
    else this.#from.resume();
  }

  #hand({ bytes, at }: { readonly bytes: Buffer; readonly at: number }): void {
    const { sliceBytes, bytesPerSecond } = this.#faults;
    const slice = sliceBytes === undefined ? bytes.length : 1 + Math.floor(this.#host.random() * sliceBytes);
    // A rate lets through what a tenth of a second carries, so that it is a flow and not a clot.
    const atOnce = bytesPerSecond === undefined ? bytes.length : Math.max(1, Math.floor(bytesPerSecond / 10));
    const length = Math.min(bytes.length, slice, atOnce, this.#untilCut);
    if (length < bytes.length) this.#held[0] = { bytes: bytes.subarray(length), at };
    else this.#held.shift();
    this.#heldBytes -= length;
    this.#untilCut -= length;
    if (bytesPerSecond !== undefined)
      this.#freeAt = Math.max(this.#freeAt, performance.now()) + (length / bytesPerSecond) * 1000;
    this.#host.moved(length);
    if (length > 0 && !this.#to.destroyed) this.#isBlocked = !this.#to.write(bytes.subarray(0, length));
  }
}
