import type { HubErrorCode } from '../errors.ts';

/** What the gRPC end tells: worth logging or counting. */
export type GrpcFact =
  | { readonly kind: 'grpc-listening'; readonly address: string }
  /** A connection that never became HTTP/2. */
  | {
      readonly kind: 'grpc-connection-refused';
      readonly peer: string;
      readonly reason: 'not-http2' | 'silent' | 'tls' | 'too-many';
      readonly message: string;
    }
  /** A call that ended with an error of ours; `internal` ones are bugs and carry their cause. */
  | {
      readonly kind: 'grpc-call-failed';
      readonly method: string;
      readonly peer: string;
      readonly code: HubErrorCode;
      readonly message: string;
      readonly cause?: unknown;
    }
  /** A stream that was ended because its peer did not do its part. */
  | { readonly kind: 'grpc-stream-reset'; readonly method: string; readonly peer: string; readonly reason: string }
  | { readonly kind: 'grpc-closed' };
