import type { Clock } from '../../flow/clock.ts';
import { hubFrame, keepaliveFrame } from '../../gateway/sse/frame.ts';

export interface SseBodyOptions {
  /** A quiet stream gets a comment after so many ms. */
  readonly pingMs: number;
  /** Without a frame for so many ms the stream ends with `hub.idle`; 0: never. */
  readonly idleLimitMs: number;
  readonly clock: Clock;
  /** Ends the stream with this frame, when it aborts. */
  readonly signal?: AbortSignal | undefined;
  readonly lastFrame?: Buffer | undefined;
  /** Called once, however it ended. */
  readonly onEnd?: (() => void) | undefined;
}

/** Frames as the body of a Web `Response`. Reads no faster than it is read; leaving it lets go of the frames. */
export function sseBody(frames: AsyncIterator<Uint8Array>, options: SseBodyOptions): ReadableStream<Uint8Array> {
  const { pingMs, idleLimitMs, clock, signal, lastFrame, onEnd } = options;
  let pending: Promise<IteratorResult<Uint8Array>> | undefined;
  let lastMs = clock.monotonic();
  let hasEnded = false;
  const end = (): void => {
    if (hasEnded) return;
    hasEnded = true;
    void frames.return?.()?.catch(() => undefined);
    onEnd?.();
  };

  /** A frame, its end, or undefined: nothing has come for so long. */
  const next = (): Promise<IteratorResult<Uint8Array> | undefined> => {
    pending ??= frames.next();
    const step = pending;
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        letGo();
        signal?.removeEventListener('abort', stop);
        settle();
      };
      const stop = (): void => finish(() => resolve({ value: undefined, done: true }));
      const letGo = clock.after(pingMs, () => finish(() => resolve(undefined)));
      step.then(
        (value) => finish(() => resolve(value)),
        (error: unknown) => finish(() => reject(error)),
      );
      if (signal?.aborted) stop();
      else signal?.addEventListener('abort', stop, { once: true });
    });
  };

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const step = await next();
        if (hasEnded) return;
        const nowMs = clock.monotonic();
        if (step === undefined) {
          if (idleLimitMs > 0 && nowMs - lastMs >= idleLimitMs) {
            controller.enqueue(hubFrame('hub.idle', { idleLimitMs }));
            controller.close();
            end();
          } else controller.enqueue(keepaliveFrame);
          return;
        }
        pending = undefined;
        lastMs = nowMs;
        if (!step.done) {
          controller.enqueue(step.value);
          return;
        }
        if (signal?.aborted && lastFrame) controller.enqueue(lastFrame);
        controller.close();
        end();
      },
      cancel: end,
    },
    new ByteLengthQueuingStrategy({ highWaterMark: 16 * 1024 }),
  );
}
