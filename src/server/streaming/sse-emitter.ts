import { memoryEventLog } from '../../events/memory-event-log.ts';
import { type LogLevel, logSink, StreamContext, type StreamContextFields } from '../../tasks/index.ts';
import { streaming } from './init-streaming.ts';
import { type SseOptions, Streaming } from './streaming.ts';

/**
 * The emitter of old, kept in the memory of this process: `emit`, `log`, `progress`, `error`, `data`, `complete`, and
 * `response` for who watches. For moving over step by step; it is a `StreamContext`, as `context`, so that a part that
 * runs elsewhere can already be handed that.
 */
export class SSEEmitter {
  readonly context: StreamContext;
  /** Undefined: the stream is one of those that `initStreaming` has set up. */
  readonly #own: Streaming | undefined;

  /**
   * `stream`: a context, for a stream that leads where `initStreaming` says; or what a stream of the memory of this process is
   * about. Default: one that is about nothing.
   */
  constructor(stream: StreamContext | Partial<StreamContextFields> = {}) {
    if (stream instanceof StreamContext) {
      this.context = stream;
      return;
    }
    const log = memoryEventLog({ maxChannels: 1 });
    const named = { workspaceId: 'local', project: 'local', env: 'local', service: 'local', ...stream };
    this.context = StreamContext.create(named as StreamContextFields, { sink: logSink(log) });
    this.#own = new Streaming({ log, close: () => log.close() });
  }

  get channelId(): string {
    return this.context.channelId;
  }

  get isClosed(): boolean {
    return this.context.isClosed;
  }

  /** As `StreamContext.emit`, and so are the others: what is no event is refused at once, and so is all after `complete`. */
  emit(type: string, data: unknown): void {
    void this.context.emit(type, data);
  }

  log(message: string, level?: LogLevel): void {
    void this.context.log(message, level);
  }

  progress(percent: number, step?: string, message?: string): void {
    void this.context.progress(percent, step, message);
  }

  error(message: string, details?: unknown): void {
    void this.context.error(message, details);
  }

  data(data: unknown): void {
    void this.context.data(data);
  }

  complete(success: boolean, error?: string, result?: unknown): void {
    void this.context.complete(success, error, result);
  }

  /** Ends all answers and forgets what was told; of a stream of `initStreaming` that is for its `close` to do. */
  async close(): Promise<void> {
    await this.#own?.close();
  }

  /** All of it, from the first event to `done`, as often as it is asked for. */
  response(options?: SseOptions): Promise<Response> {
    return (this.#own ?? streaming()).sseResponse(this.context, options);
  }
}
