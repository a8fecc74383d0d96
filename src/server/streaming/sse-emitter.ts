import { memoryEventLog } from '../../events/memory-event-log.ts';
import { type LogLevel, logSink, StreamContext, type StreamContextFields } from '../../tasks/index.ts';
import { type SseOptions, Streaming } from './streaming.ts';

/**
 * The emitter of old, kept in the memory of this process: `emit`, `log`, `progress`, `error`, `data`, `complete`, and
 * `response` for who watches. For moving over step by step; it is a `StreamContext`, as `context`, so that a part that
 * runs elsewhere can already be handed that.
 */
export class SSEEmitter {
  readonly context: StreamContext;
  readonly #streaming: Streaming;

  /** `context`: one that leads elsewhere, once `initStreaming` is called. Default: a stream of this process alone. */
  constructor(fields: Partial<StreamContextFields> = {}) {
    const log = memoryEventLog({ maxChannels: 1 });
    const named = { workspaceId: 'local', project: 'local', env: 'local', service: 'local', ...fields };
    this.context = StreamContext.create(named as StreamContextFields, { sink: logSink(log) });
    this.#streaming = new Streaming({ log, close: () => log.close() });
  }

  get channelId(): string {
    return this.context.channelId;
  }

  get isClosed(): boolean {
    return this.context.isClosed;
  }

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

  /** Ends all answers and forgets what was told. */
  close(): Promise<void> {
    return this.#streaming.close();
  }

  /** All of it, from the first event to `done`, as often as it is asked for. */
  response(options?: SseOptions): Promise<Response> {
    return this.#streaming.sseResponse(this.context, options);
  }
}
