import type { NodeLink } from '../cluster/index.ts';
import { HubError, toHubError } from '../errors.ts';
import { encodeMessage } from '../protocol/codec.ts';
import { type CommandUpdate, isTerminalUpdate } from '../protocol/command.ts';
import { commandFromProto, updateToProto } from '../protocol/convert.ts';
import { LinkResponse, type NodeAnswer, type NodeAsk } from '../protocol/gen/signalbox/v1/node.ts';
import { withMessageRoom } from '../protocol/message-splitter.ts';
import { type AnswerBody, nodeClientToProto, nodeCommandToProto, nodeErrorToProto } from './node-frames.ts';
import type { RawCall } from './raw-call.ts';
import { statusOfError } from './status.ts';

/** A message is closed at this size; what is in it may be larger. */
const joinedBytes = 256 * 1024;
/** Answers that wait for a peer that does not read; then it is not worth waiting for. */
const maxWaiting = 100_000;

/** A command whose updates are told over a link. */
interface Telling {
  leave(): void;
  abort(): void;
}

/** The answering side of one link. */
export class AnsweringLink {
  readonly #call: RawCall;
  readonly #end: NodeLink;
  readonly #telling = new Map<number, Telling>();
  #answers: NodeAnswer[] = [];
  #bytes = 0;
  #isFlushing = false;
  #isWritable = true;
  #isClosed = false;
  #isLeaving = false;
  #lastAsk = 0;
  onClosed = (): void => undefined;

  constructor(call: RawCall, end: NodeLink) {
    this.#call = call;
    this.#end = end;
  }

  /** A newer link of the same node takes its place. */
  end(): void {
    this.closed();
    this.#call.end(statusOfError(new HubError('unavailable', 'a newer link of this node took over')));
  }

  /** This node closes. Whoever asked is told which asks were never taken: they are surely nobody's yet. */
  async leave(): Promise<void> {
    this.#isLeaving = true;
    // What is refused or known is answered in this turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
    if (this.#isClosed) return;
    this.#isWritable = true;
    this.#write();
    this.#call.write(encodeAnswer({ goodbye: { lastAsk: this.#lastAsk } }));
    this.closed();
    this.#call.end();
  }

  closed(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#answers = [];
    // What was accepted goes on; nobody is told.
    for (const telling of this.#telling.values()) telling.leave();
    this.#telling.clear();
    this.onClosed();
  }

  take(asks: readonly NodeAsk[]): void {
    for (const ask of asks) {
      if (this.#isClosed || this.#isLeaving) return;
      this.#lastAsk = Math.max(this.#lastAsk, ask.number);
      try {
        this.#takeOne(ask);
      } catch (error) {
        this.#fail(ask.number, error);
      }
    }
  }

  flush(): void {
    this.#isWritable = true;
    this.#write();
  }

  #takeOne({ number, body }: NodeAsk): void {
    const end = this.#end;
    switch (body?.$case) {
      case 'send': {
        const { command: message, tenant, endOnly } = body.value;
        if (!message) throw new HubError('invalid-argument', 'command is missing');
        const command = commandFromProto(message, tenant);
        if (endOnly) this.#reply(number, end.settle(command).then(updateAnswer));
        else {
          const aborter = new AbortController();
          this.#tell(number, end.send(command, { signal: aborter.signal }), () => aborter.abort());
        }
        return;
      }
      case 'watch':
        this.#tell(number, end.watch(body.value.tenant, body.value.commandId, of(body.value)), () => undefined);
        return;
      case 'cancel': {
        const { tenant, commandId, reason } = body.value;
        this.#reply(number, end.cancel(tenant, commandId, reason, of(body.value)).then(updateAnswer));
        return;
      }
      case 'get':
        this.#reply(
          number,
          end.get(body.value.tenant, body.value.commandId, of(body.value)).then((one) => commandsAnswer([one])),
        );
        return;
      case 'list': {
        const { tenant, clientId, pendingOnly, limit } = body.value;
        const filter = { tenant, clientId: clientId || undefined, pendingOnly, limit };
        this.#reply(number, end.list(filter).then(commandsAnswer));
        return;
      }
      case 'yield':
        this.#reply(number, end.yield(body.value, body.value.epoch).then(commandsAnswer));
        return;
      case 'client':
        this.#reply(
          number,
          end.client(body.value).then((client) => ({ $case: 'client', value: nodeClientToProto(client) })),
        );
        return;
      case 'disconnect':
        this.#reply(
          number,
          end.disconnect(body.value, body.value).then((value) => ({ $case: 'disconnected', value })),
        );
        return;
      case 'abort':
        this.#telling.get(number)?.abort();
        return;
      case 'leave':
        this.#telling.get(number)?.leave();
        this.#telling.delete(number);
        return;
      case undefined:
        // Of a newer version.
        throw new HubError('unimplemented', 'this node does not know what is asked');
      default:
        body satisfies never;
    }
  }

  #reply(number: number, answer: Promise<AnswerBody>): void {
    answer.then(
      (body) => this.#answer({ number, body }),
      (error: unknown) => this.#fail(number, error),
    );
  }

  #tell(number: number, updates: AsyncIterable<CommandUpdate>, abort: () => void): void {
    const iterator = updates[Symbol.asyncIterator]();
    this.#telling.set(number, { leave: () => void iterator.return?.(), abort });
    const next = (): void => {
      iterator.next().then(
        ({ value, done }) => {
          if (this.#isClosed) return;
          if (done || !value) {
            // Its reading was ended from this side: whoever asked looks for it again.
            if (this.#telling.delete(number)) this.#fail(number, new HubError('unavailable', 'the reading has ended'));
            return;
          }
          this.#answer({ number, body: updateAnswer(value) });
          if (isTerminalUpdate(value)) this.#telling.delete(number);
          else next();
        },
        (error: unknown) => {
          this.#telling.delete(number);
          this.#fail(number, error);
        },
      );
    };
    next();
  }

  #fail(number: number, error: unknown): void {
    this.#answer({ number, body: { $case: 'error', value: nodeErrorToProto(toHubError(error)) } });
  }

  /** Answers of one turn of the event loop leave together. */
  #answer(answer: NodeAnswer): void {
    if (this.#isClosed) return;
    this.#answers.push(answer);
    this.#bytes += sizeOf(answer);
    if (this.#answers.length > maxWaiting) this.#call.reset();
    // What was given up may be the last that this node has, and the next it does is to close.
    else if (this.#bytes >= joinedBytes || answer.body?.$case === 'commands') this.#write();
    else if (!this.#isFlushing) {
      this.#isFlushing = true;
      setImmediate(() => {
        this.#isFlushing = false;
        this.#write();
      });
    }
  }

  #write(): void {
    if (!this.#isWritable || this.#answers.length === 0 || this.#isClosed) return;
    const answers = this.#answers;
    this.#answers = [];
    this.#bytes = 0;
    this.#isWritable = this.#call.write(encodeAnswer({ answers }));
  }
}

/** With the room in front that gRPC's header takes. */
export function encodeAnswer(response: Partial<LinkResponse>): Buffer {
  const nothing = { challenge: undefined, welcome: undefined, answers: [], goodbye: undefined };
  const bytes = encodeMessage(LinkResponse, { ...nothing, ...response });
  return withMessageRoom(bytes);
}

const of = ({ clientId }: { readonly clientId: string }) => ({ clientId: clientId || undefined });

const updateAnswer = (update: CommandUpdate): AnswerBody => ({ $case: 'update', value: updateToProto(update) });

const commandsAnswer = (commands: readonly Parameters<typeof nodeCommandToProto>[0][]): AnswerBody => ({
  $case: 'commands',
  value: { commands: commands.map(nodeCommandToProto) },
});

function sizeOf({ body }: NodeAnswer): number {
  if (body?.$case !== 'update') return 256;
  const { result, progress } = body.value;
  return 128 + (result?.value.length ?? 0) + (progress?.item?.value.length ?? 0);
}
