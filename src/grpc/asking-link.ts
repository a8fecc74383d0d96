import { LinkBroken } from '../cluster/index.ts';
import { HubError } from '../errors.ts';
import { PushStream } from '../flow/push-stream.ts';
import { type CommandUpdate, isTerminalUpdate } from '../protocol/command.ts';
import { updateFromProto } from '../protocol/convert.ts';
import { type Asker, type AskingLinkOptions, AskingStream } from './asking-stream.ts';
import { type AnswerBody, type AskBody, nodeErrorFromProto } from './node-frames.ts';

/** Asks that may wait for the link to open, or for the wire to take more. */
const maxWaiting = 100_000;
/** A link that could not be opened is not tried again before this time, in ms. */
const retryMs = 200;

/** The asking side of the link to one node. Opens with the first ask, and again with the first one after a break. */
export class AskingLink {
  readonly #options: AskingLinkOptions;
  #stream: AskingStream | undefined;
  #failedAt = Number.NEGATIVE_INFINITY;
  #failure = '';
  #isClosed = false;

  constructor(options: AskingLinkOptions) {
    this.#options = options;
  }

  /** One ask with one answer. `bytes`: about how large it is beside its frame. */
  ask(body: AskBody, bytes = 0): Promise<AnswerBody> {
    return new Promise((resolve, reject) => {
      this.#send(body, bytes, {
        hasLeft: false,
        onAnswer(answer) {
          if (answer.$case === 'error') reject(nodeErrorFromProto(answer.value));
          else resolve(answer);
          return true;
        },
        onBroken: reject,
      });
    });
  }

  /** One ask with updates as its answers. An abort asks for a cancel, or ends the reading. */
  read(
    body: AskBody,
    bytes: number,
    signal: AbortSignal | undefined,
    onAbort: 'abort' | 'leave' = 'abort',
  ): AsyncIterable<CommandUpdate> {
    return {
      [Symbol.asyncIterator]: () => {
        const updates = new PushStream<CommandUpdate>();
        const letGo = (): void => signal?.removeEventListener('abort', abort);
        const fail = (error: unknown): void => {
          letGo();
          updates.fail(error);
        };
        const sent = this.#send(body, bytes, {
          hasLeft: false,
          onAnswer(answer) {
            if (answer.$case === 'error') {
              fail(nodeErrorFromProto(answer.value));
              return true;
            }
            if (answer.$case !== 'update') {
              fail(new HubError('internal', `a node answered with "${answer.$case}" instead of an update`));
              return true;
            }
            const update = updateFromProto(answer.value);
            updates.push(update);
            if (!isTerminalUpdate(update)) return false;
            letGo();
            updates.end();
            return true;
          },
          onBroken: fail,
        });
        const leave = (): void => {
          letGo();
          sent?.forget({ $case: 'leave', value: {} });
        };
        const abort = (): void => {
          if (onAbort === 'abort') sent?.say({ $case: 'abort', value: {} });
          else {
            leave();
            updates.end();
          }
        };
        updates.onReturn = leave;
        signal?.addEventListener('abort', abort, { once: true });
        if (signal?.aborted) abort();
        return updates;
      },
    };
  }

  close(): void {
    this.#isClosed = true;
    this.#stream?.break('the link was closed here');
  }

  #send(body: AskBody, bytes: number, asker: Asker) {
    const { node, clock } = this.#options;
    const broken = (why: string): undefined => {
      asker.onBroken(new LinkBroken(`node ${node.id} at ${node.address}: ${why}`, { mayHaveArrived: false }));
    };
    if (this.#isClosed) return broken('it has left the cluster');
    if (!this.#stream) {
      if (clock.monotonic() - this.#failedAt < retryMs) return broken(this.#failure);
      const stream = new AskingStream(this.#options, (why, wasOpen) => {
        if (this.#stream === stream) this.#stream = undefined;
        if (wasOpen) return;
        this.#failedAt = clock.monotonic();
        this.#failure = why;
      });
      this.#stream = stream;
    }
    const stream = this.#stream;
    if (stream.waiting >= maxWaiting) return broken(`${stream.waiting} asks wait for it`);
    const number = stream.ask(body, bytes, asker);
    return {
      say: (word: AskBody) => stream.say(number, word),
      /** Nothing more is awaited. */
      forget: (word: AskBody) => stream.forget(number) && stream.say(number, word),
    };
  }
}
