import { randomBytes } from 'node:crypto';
import { Client, type ClientDuplexStream, Metadata, type StatusObject } from '@grpc/grpc-js';
import { LinkBroken, type NodeInfo } from '../cluster/index.ts';
import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { encodeMessage } from '../protocol/codec.ts';
import { LinkRequest, LinkResponse, type NodeAnswer, type NodeAsk } from '../protocol/gen/signalbox/v1/node.ts';
import { type ClientTls, channelParts } from './channel.ts';
import { isSameProof, linkPath, linkProof, linkProtocol } from './link-proof.ts';
import type { AnswerBody, AskBody } from './node-frames.ts';

export interface AskingLinkOptions {
  readonly node: NodeInfo;
  readonly key: Buffer;
  /** The instance that asks. */
  readonly instance: () => string;
  readonly tls: ClientTls | true | undefined;
  readonly connectTimeoutMs: number;
  readonly heartbeatMs: number;
  readonly clock: Clock;
}

/** Who waits for answers with one number. */
export interface Asker {
  /** True: nothing more is awaited. */
  onAnswer(body: AnswerBody): boolean;
  onBroken(error: LinkBroken): void;
  /** Written to the stream, so that it may have arrived. */
  hasLeft: boolean;
}

/** A message holds no more than this; one ask may be larger. */
const joinedBytes = 256 * 1024;
/** One stream, from opening to its break. */
export class AskingStream {
  readonly #options: AskingLinkOptions;
  readonly #onBroken: (why: string, wasOpen: boolean) => void;
  readonly #client: Client;
  readonly #call: ClientDuplexStream<Buffer, Buffer>;
  readonly #askers = new Map<number, Asker>();
  #asks: NodeAsk[] = [];
  #bytes = 0;
  #number = 0;
  #phase: 'greeting' | 'welcomed' | 'broken' = 'greeting';
  #expectedProof: Buffer | undefined;
  #isFlushing = false;
  #isWritable = true;
  readonly #letGo: () => void;

  constructor(options: AskingLinkOptions, onBroken: (why: string, wasOpen: boolean) => void) {
    this.#options = options;
    this.#onBroken = onBroken;
    const { node, tls, connectTimeoutMs, heartbeatMs, clock } = options;
    const {
      targets: [target],
      credentials,
      options: channelOptions,
    } = channelParts({
      address: node.address,
      tls,
      connectTimeoutMs,
      channelOptions: {
        'grpc.use_local_subchannel_pool': 1,
        'grpc.keepalive_time_ms': heartbeatMs,
        'grpc.keepalive_timeout_ms': heartbeatMs,
      },
    });
    this.#client = new Client(target!, credentials, channelOptions);
    this.#call = this.#client.makeBidiStreamRequest<Buffer, Buffer>(linkPath, same, same, new Metadata());
    this.#letGo = clock.after(connectTimeoutMs, () => this.break(`no link within ${connectTimeoutMs} ms`));
    this.#call.on('data', (bytes: Buffer) => this.#onMessage(bytes));
    this.#call.on('drain', () => {
      this.#isWritable = true;
      this.#write();
    });
    // The same comes by 'status'.
    this.#call.on('error', () => undefined);
    this.#call.on('status', ({ details, code }: StatusObject) => this.break(details || `gRPC status ${code}`));
  }

  get waiting(): number {
    return this.#asks.length;
  }

  ask(body: AskBody, bytes: number, asker: Asker): number {
    const number = ++this.#number;
    this.#askers.set(number, asker);
    this.#push({ number, body }, bytes);
    return number;
  }

  /** A word about an earlier ask, as long as it is awaited. */
  say(number: number, body: AskBody): void {
    if (this.#phase !== 'broken' && (this.#askers.has(number) || body.$case === 'leave'))
      this.#push({ number, body }, 0);
  }

  /** True when it was still awaited. */
  forget(number: number): boolean {
    return this.#askers.delete(number);
  }

  break(why: string): void {
    if (this.#phase === 'broken') return;
    const wasOpen = this.#phase === 'welcomed';
    this.#phase = 'broken';
    this.#letGo();
    this.#call.cancel();
    this.#client.close();
    this.#onBroken(why, wasOpen);
    const { node } = this.#options;
    for (const asker of this.#askers.values())
      asker.onBroken(new LinkBroken(`node ${node.id} at ${node.address}: ${why}`, { mayHaveArrived: asker.hasLeft }));
    this.#askers.clear();
    this.#asks = [];
  }

  #push(ask: NodeAsk, bytes: number): void {
    this.#asks.push(ask);
    this.#bytes += 128 + bytes;
    if (this.#bytes >= joinedBytes) this.#write();
    else if (!this.#isFlushing) {
      this.#isFlushing = true;
      setImmediate(() => {
        this.#isFlushing = false;
        this.#write();
      });
    }
  }

  #write(): void {
    if (this.#phase !== 'welcomed' || !this.#isWritable || this.#asks.length === 0) return;
    while (this.#asks.length > 0 && this.#isWritable) {
      // Whole asks up to the size that a message may have; one that is larger goes alone.
      let count = 1;
      let bytes = sizeOf(this.#asks[0]!);
      while (count < this.#asks.length) {
        bytes += sizeOf(this.#asks[count]!);
        if (bytes > joinedBytes) break;
        count++;
      }
      const asks = count === this.#asks.length ? this.#asks : this.#asks.slice(0, count);
      this.#asks = count === this.#asks.length ? [] : this.#asks.slice(count);
      for (const { number } of asks) {
        const asker = this.#askers.get(number);
        if (asker) asker.hasLeft = true;
      }
      this.#isWritable = this.#call.write(encode({ hello: undefined, asks }));
    }
    this.#bytes = 0;
  }

  #onMessage(bytes: Buffer): void {
    try {
      const { challenge, welcome, answers, goodbye } = LinkResponse.decode(bytes);
      if (challenge) this.#greet(challenge.nonce);
      else if (welcome) this.#welcome(welcome.proof);
      else if (this.#phase === 'welcomed') for (const answer of answers) this.#onAnswer(answer);
      if (goodbye && this.#phase === 'welcomed') this.#onGoodbye(goodbye.lastAsk);
    } catch (error) {
      this.break(toHubError(error).message);
    }
  }

  #greet(challenge: Uint8Array): void {
    const { key, node } = this.#options;
    const instance = this.#options.instance();
    const nonce = randomBytes(16);
    const facts = { challenge, nonce, instance, toInstance: node.instance };
    this.#expectedProof = linkProof(key, 'answers', facts);
    const proof = linkProof(key, 'asks', facts);
    const hello = { protocol: linkProtocol, instance, toInstance: node.instance, nonce, proof };
    this.#call.write(encode({ hello, asks: [] }));
  }

  #welcome(proof: Uint8Array): void {
    if (!this.#expectedProof || !isSameProof(proof, this.#expectedProof))
      throw new HubError('unauthenticated', 'it does not know the cluster secret');
    this.#letGo();
    this.#phase = 'welcomed';
    this.#write();
  }

  /** The node closes, and has not looked at what came after `lastAsk`. */
  #onGoodbye(lastAsk: number): void {
    for (const [number, asker] of this.#askers) if (number > lastAsk) asker.hasLeft = false;
    this.break('it is closing');
  }

  #onAnswer({ number, body }: NodeAnswer): void {
    const asker = this.#askers.get(number);
    if (asker && body && asker.onAnswer(body)) this.#askers.delete(number);
  }
}

function encode(request: LinkRequest): Buffer {
  const bytes = encodeMessage(LinkRequest, request);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function sizeOf({ body }: NodeAsk): number {
  return 128 + (body?.$case === 'send' ? (body.value.command?.payload?.value.length ?? 0) : 0);
}

const same = (bytes: Buffer): Buffer => bytes;
