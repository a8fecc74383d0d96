import { type ClientHttp2Session, connect } from 'node:http2';
import type { HubRoad } from '../device/wire/hub-road.ts';
import { keepPinging } from '../device/wire/keep-pinging.ts';
import { systemClock } from '../flow/clock.ts';
import type { Http2Call } from './http2-call.ts';

/** After an attempt that failed, calls fail at once for so long, and longer with each further one, in ms. */
const firstPauseMs = 100;
const longestPauseMs = 2_000;

/** The calls to one hub, over one connection: it opens with the first call, and anew with the next one after its loss. */
export class HubLink {
  readonly #road: HubRoad;
  readonly #connectTimeoutMs: number;
  /** The connection for new calls. One that the hub has closed for those lives on until its last call is over. */
  #connection: Connection | undefined;
  readonly #all = new Set<Connection>();
  readonly #waiting = new Set<Http2Call>();
  #failures = 0;
  #lastFailure = '';
  #retryAt = Number.NEGATIVE_INFINITY;

  /** `connectTimeoutMs`: an attempt that takes longer has failed. */
  constructor(road: HubRoad, connectTimeoutMs: number) {
    this.#road = road;
    this.#connectTimeoutMs = connectTimeoutMs;
  }

  /** It could not be reached when it was tried last. */
  get hasFailed(): boolean {
    return this.#failures > 0;
  }

  call(call: Http2Call): void {
    if (this.#connection?.isOpen) this.#start(call, this.#connection);
    else if (this.#connection === undefined && systemClock.monotonic() < this.#retryAt)
      setImmediate(() => call.refuse(this.#lastFailure));
    else {
      this.#waiting.add(call);
      if (this.#connection === undefined || this.#connection.isReady) this.#connect();
    }
  }

  close(): void {
    for (const connection of this.#all) connection.end(new Error('closed here'));
  }

  #start(call: Http2Call, connection: Connection): void {
    if (!call.isWanted) return;
    if (!connection.isOpen) {
      this.call(call);
      return;
    }
    connection.start(call, (isOutOfStreams) => {
      if (!isOutOfStreams) return;
      this.#retire(connection);
      this.call(call);
    });
  }

  #connect(): void {
    const connection = new Connection(this.#road, this.#connectTimeoutMs, {
      onReady: () => {
        this.#failures = 0;
        for (const call of this.#taken()) this.#start(call, connection);
      },
      onRetired: () => {
        if (connection.isReady) this.#retire(connection);
      },
      onClosed: (error) => {
        this.#all.delete(connection);
        if (this.#connection !== connection) return;
        this.#connection = undefined;
        if (connection.isReady) return;
        const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** this.#failures++);
        this.#retryAt = systemClock.monotonic() + pauseMs;
        this.#lastFailure = error?.message || (error as NodeJS.ErrnoException)?.code || 'the connection was dropped';
        for (const call of this.#taken()) call.refuse(this.#lastFailure);
      },
    });
    this.#connection = connection;
    this.#all.add(connection);
  }

  /** The next call opens another connection. */
  #retire(connection: Connection): void {
    connection.retire();
    if (this.#connection === connection) this.#connection = undefined;
  }

  #taken(): Http2Call[] {
    const calls = [...this.#waiting];
    this.#waiting.clear();
    return calls;
  }
}

interface ConnectionListener {
  /** The hub has spoken: it takes calls. */
  onReady(): void;
  /** The hub takes no more calls. */
  onRetired(): void;
  onClosed(error: Error | undefined): void;
}

/** One HTTP/2 connection. It keeps the process alive while it has calls, or is not ready. */
class Connection {
  isReady = false;
  readonly #session: ClientHttp2Session;
  #calls = 0;

  constructor(road: HubRoad, connectTimeoutMs: number, listener: ConnectionListener) {
    const socket = road.connect();
    const session = connect(road.authority, {
      createConnection: () => socket,
      settings: { enablePush: false },
      // Node would refuse calls at 10 MB; how many there are is limited, and what each may hold.
      maxSessionMemory: Number.MAX_SAFE_INTEGER,
    });
    this.#session = session;
    let error: Error | undefined;
    // Not by the transport's clock: what is measured here is the machine's network.
    let letGo = systemClock.after(connectTimeoutMs, () =>
      this.end(new Error(`no answer from ${road.address} within ${connectTimeoutMs} ms`)),
    );
    session.once('remoteSettings', () => {
      letGo();
      if (session.destroyed) return;
      letGo = keepPinging(session, systemClock, (reason) => this.end(reason));
      this.isReady = true;
      listener.onReady();
      if (this.#calls === 0) session.unref();
    });
    session.on('goaway', () => listener.onRetired());
    session.on('error', (thrown: Error) => {
      error ??= thrown;
    });
    session.once('close', () => {
      letGo();
      socket.destroy();
      listener.onClosed(error);
    });
  }

  /** New calls can be made on it. */
  get isOpen(): boolean {
    return this.isReady && !this.#session.closed && !this.#session.destroyed;
  }

  start(call: Http2Call, onOver: (isOutOfStreams: boolean) => void): void {
    if (this.#calls++ === 0) this.#session.ref();
    call.start(this.#session, (isOutOfStreams) => {
      if (--this.#calls === 0 && !this.#session.destroyed) this.#session.unref();
      onOver(isOutOfStreams);
    });
  }

  /** Ends once its calls are over. */
  retire(): void {
    if (!this.#session.destroyed) this.#session.close();
  }

  end(error: Error): void {
    this.#session.destroy(error);
  }
}
