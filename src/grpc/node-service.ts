import { randomBytes } from 'node:crypto';
import type { NodeLink } from '../cluster/index.ts';
import { HubError, toHubError } from '../errors.ts';
import type { Clock } from '../flow/clock.ts';
import { LinkRequest } from '../protocol/gen/signalbox/v1/node.ts';
import { AnsweringLink, encodeAnswer } from './answering-link.ts';
import type { GrpcFact } from './facts.ts';
import { clusterKey, isSameProof, linkProof, linkProtocol } from './link-proof.ts';
import type { BidiHandler } from './raw-call.ts';
import { statusOfError } from './status.ts';

/** This node as the others reach it. */
export interface NodeServing {
  /** What answers them. */
  readonly end: NodeLink;
  /** At least 32 bytes, the same at all nodes. */
  readonly secret: string | Buffer;
  /** Whether this process is meant. */
  isOwn(instance: string): boolean;
}

export interface NodeEnvironment {
  readonly clock: Clock;
  readonly observe: (fact: GrpcFact) => void;
  /** The hello has to come within this time, in ms. */
  readonly firstFrameMs: number;
}

/** The links of other nodes to this one. */
export interface AnsweredLinks {
  readonly handle: BidiHandler;
  /** Takes no more asks, answers what can be answered at once, and says what was taken. */
  close(): Promise<void>;
}

/** Handles the links of other nodes. */
export function answeredLinks(serving: NodeServing, environment: NodeEnvironment): AnsweredLinks {
  const key = clusterKey(serving.secret);
  /** By the instance that asks: a new link ends the old one, whose last asks must not come after. */
  const links = new Map<string, AnsweringLink>();
  const handle: BidiHandler = (call) => {
    const { clock, observe, firstFrameMs } = environment;
    const challenge = randomBytes(16);
    let link: AnsweringLink | undefined;
    const refuse = (thrown: unknown): void => {
      const error = toHubError(thrown);
      letGo();
      observe({
        kind: 'grpc-call-failed',
        method: call.path,
        peer: call.peer,
        code: error.code,
        message: error.message,
      });
      call.end(statusOfError(error));
    };
    const letGo = clock.after(firstFrameMs, () =>
      refuse(new HubError('deadline-exceeded', `no hello came within ${firstFrameMs} ms`)),
    );
    const open = (bytes: Buffer): AnsweringLink => {
      const { hello } = LinkRequest.decode(bytes);
      if (hello?.protocol !== linkProtocol)
        throw new HubError(
          'invalid-argument',
          `protocol ${hello?.protocol ?? 0} is not spoken here, ${linkProtocol} is`,
        );
      const facts = { challenge, nonce: hello.nonce, instance: hello.instance, toInstance: hello.toInstance };
      if (!isSameProof(hello.proof, linkProof(key, 'asks', facts)))
        throw new HubError('unauthenticated', 'the proof does not fit the cluster secret of this node');
      if (!serving.isOwn(hello.toInstance))
        throw new HubError(
          'not-found',
          `this is not instance ${hello.toInstance}: another process has its address now`,
        );
      letGo();
      const opened = new AnsweringLink(call, serving.end);
      links.get(hello.instance)?.end();
      links.set(hello.instance, opened);
      opened.onClosed = () => {
        if (links.get(hello.instance) === opened) links.delete(hello.instance);
      };
      const proof = linkProof(key, 'answers', facts);
      call.write(encodeAnswer({ welcome: { proof } }));
      return opened;
    };
    call.listen({
      onMessage(bytes) {
        try {
          if (link) link.take(LinkRequest.decode(bytes).asks);
          else link = open(bytes);
        } catch (error) {
          refuse(error);
        }
      },
      onWritable: () => link?.flush(),
      onClosed: () => {
        letGo();
        link?.closed();
      },
    });
    call.write(encodeAnswer({ challenge: { nonce: challenge } }));
  };
  const close = async (): Promise<void> => {
    await Promise.all([...links.values()].map((link) => link.leave()));
  };
  return { handle, close };
}
