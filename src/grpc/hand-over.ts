import { CallCredentials, Metadata, type StatusObject, status } from '@grpc/grpc-js';
import type { HubError } from '../errors.ts';

/**
 * Tells whether grpc-js has chosen a connection for a call, so that the hub may get it: right before it writes, it
 * asks for the credentials of the call. Until then it is certain that nothing has left this process.
 */
export class HandOver extends CallCredentials {
  wasMade = false;

  generateMetadata(): Promise<Metadata> {
    this.wasMade = true;
    return nothing;
  }
  compose(): CallCredentials {
    return this;
  }
  _equals(other: CallCredentials): boolean {
    return this === other;
  }
}

const nothing = Promise.resolve(new Metadata());

/** Whether the end of a call says something of the connection, and not of the command. */
export function isBreak(code: number, isOurs: boolean, error: HubError): boolean {
  if (isOurs) return error.code === 'unavailable';
  // OK without a terminal update; the others are how grpc-js tells of a reset, a GOAWAY or a dead connection.
  const breaks: number[] = [status.OK, status.CANCELLED, status.UNKNOWN, status.INTERNAL, status.UNAVAILABLE];
  return breaks.includes(code);
}

/** HTTP/2 says for certain that the server has not looked at the call: it came after the GOAWAY of a hub that closes. */
export function isRefusedStream({ code, details }: StatusObject): boolean {
  return code === status.UNAVAILABLE && details === 'Stream refused by server';
}
