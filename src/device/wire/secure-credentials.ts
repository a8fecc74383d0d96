import { isIP } from 'node:net';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';

/** PEM, as text or bytes. */
export interface SecureFiles {
  readonly ca?: string | Buffer | undefined;
  readonly cert?: string | Buffer | undefined;
  readonly key?: string | Buffer | undefined;
}

/**
 * TLS for a channel of grpc-js. An address that is an IP is not sent as the server's name: TLS does not know such names,
 * and Node warns of them (DEP0123). The certificate is checked against the IP all the same. Throws what Node says of a
 * `ca`, `cert` or `key` that is none.
 */
export function secureCredentials({ ca, cert, key }: SecureFiles): ChannelCredentials {
  const base = credentials.createSsl(buffer(ca), buffer(key), buffer(cert));
  const own = Object.create(base) as ChannelCredentials;
  own._createSecureConnector = (...parameters) => {
    const connector = base._createSecureConnector(...parameters);
    // The only place where grpc-js keeps what it will ask of node:tls.
    const { connectionOptions } = connector as { connectionOptions?: { servername?: string } };
    if (connectionOptions && isIP(connectionOptions.servername ?? '') !== 0) connectionOptions.servername = '';
    return connector;
  };
  return own;
}

function buffer(pem: string | Buffer | undefined): Buffer | null {
  return pem === undefined ? null : Buffer.from(pem);
}
