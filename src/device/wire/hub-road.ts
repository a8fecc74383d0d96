import { connect as connectPlain, isIP, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext } from 'node:tls';
import { HubError } from '../../errors.ts';
import type { DeviceTls } from './grpc-wire.ts';

/** How to reach one hub. */
export interface HubRoad {
  readonly address: string;
  /** What HTTP/2 calls the other end. */
  readonly authority: string;
  connect(): Socket;
}

/** Throws `invalid-argument` for an address or certificate that cannot be. */
export function roadToHub(address: string, tls: DeviceTls | undefined): HubRoad {
  const target = parse(address);
  const authority = `${tls ? 'https' : 'http'}://${'path' in target ? 'localhost' : address}`;
  if (!tls) return { address, authority, connect: () => connectPlain(target) };
  const { ca, cert, key, serverName } = tls;
  let secureContext: ReturnType<typeof createSecureContext>;
  try {
    secureContext = createSecureContext({ ca, cert, key });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new HubError('invalid-argument', `tls: ca, cert or key cannot be used: ${reason}`, { cause: error });
  }
  const name = serverName ?? ('path' in target ? 'localhost' : target.host);
  return {
    address,
    authority,
    connect: () =>
      connectTls({
        ...target,
        secureContext,
        ALPNProtocols: ['h2'],
        // TLS does not know IPs as names, and Node warns of them (DEP0123); the certificate is checked against it all the same.
        ...(isIP(name) === 0 && { servername: name }),
      }),
  };
}

function parse(address: string): { host: string; port: number } | { path: string } {
  const unix = /^unix:(?:\/\/)?(.+)$/.exec(address);
  if (unix) return { path: unix[1]! };
  const tcp = /^(?:dns:(?:\/\/\/)?)?(\[[^\]]+\]|[^:/]+):(\d{1,5})$/.exec(address);
  const port = Number(tcp?.[2]);
  if (!tcp || port > 65_535)
    throw new HubError('invalid-argument', `address ${JSON.stringify(address)} is not host:port or unix:///path`);
  return { host: tcp[1]!.replace(/^\[|\]$/g, ''), port };
}
