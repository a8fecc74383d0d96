import { type ChannelCredentials, type ChannelOptions, credentials } from '@grpc/grpc-js';
import { secureCredentials } from '../device/wire/secure-credentials.ts';
import { HubError } from '../errors.ts';
import { type Addresses, eachAddress } from '../protocol/addresses.ts';
import { tokenFault } from '../protocol/checks.ts';
import { parseAddress } from './listener.ts';

/** A bearer token, or a function that gives the one to use now; it is asked for each call. */
export type Token = string | (() => string | Promise<string>);

/** How a hub's certificate is checked, and how the caller shows itself. PEM. */
export interface ClientTls {
  /** Authorities to trust. Default: those of the system. */
  readonly ca?: string | Buffer | undefined;
  /** The caller's own certificate and key, for mTLS. Both or none. */
  readonly cert?: string | Buffer | undefined;
  readonly key?: string | Buffer | undefined;
  /** The name that the hub's certificate has to have. Default: the address's host. */
  readonly serverName?: string | undefined;
}

export interface ConnectOptions {
  /** `host:port` or `unix:///path`; several of the hubs of one cluster, of which one is used at a time. */
  readonly address: Addresses;
  /** Default: none. */
  readonly token?: Token | undefined;
  /** `true`: TLS with the system's authorities. Default: plain. */
  readonly tls?: ClientTls | true | undefined;
  /** Further grpc-js options; they win over ours. A caller then goes through grpc-js, which it else does not need. */
  readonly channelOptions?: ChannelOptions | undefined;
  /** How long a connection may take, in ms. Default: 10000. */
  readonly connectTimeoutMs?: number | undefined;
}

/** What grpc-js takes to open a channel. */
export interface ChannelParts {
  readonly targets: readonly string[];
  readonly credentials: ChannelCredentials;
  readonly options: ChannelOptions;
}

/** Throws `invalid-argument` for an address or certificate that cannot be. */
export function channelParts(options: ConnectOptions): ChannelParts {
  const { address, tls, channelOptions, connectTimeoutMs = 10_000 } = options;
  const targets = eachAddress(address);
  for (const target of targets) parseAddress(target);
  const own = tls === true ? {} : tls;
  return {
    targets,
    credentials: own === undefined ? credentials.createInsecure() : secure(own),
    options: {
      'grpc.keepalive_time_ms': 20_000,
      'grpc.keepalive_timeout_ms': 10_000,
      // grpc-js would wait up to two minutes before it looks again for a hub that was restarted.
      'grpc.initial_reconnect_backoff_ms': 100,
      'grpc.max_reconnect_backoff_ms': 2_000,
      // nice-grpc reads this as the limit of one attempt to connect.
      'grpc.min_reconnect_backoff_ms': connectTimeoutMs,
      // Whether a command may be sent again is for us to know.
      'grpc.enable_retries': 0,
      'grpc.enable_channelz': 0,
      'grpc.max_receive_message_length': -1,
      ...(own?.serverName !== undefined && {
        'grpc.ssl_target_name_override': own.serverName,
        'grpc.default_authority': own.serverName,
      }),
      ...channelOptions,
    },
  };
}

/** The token of each call; undefined for none. Throws, or rejects with, `invalid-argument` for one that no hub would look at. */
export function callToken(token: Token | undefined): () => string | undefined | Promise<string> {
  if (typeof token === 'function') return async () => checked(await token());
  const fixed = token === undefined ? undefined : checked(token);
  return () => fixed;
}

function checked(token: string): string {
  checkToken(token);
  return token;
}

function secure(tls: ClientTls): ChannelCredentials {
  if ((tls.cert === undefined) !== (tls.key === undefined))
    throw new HubError('invalid-argument', 'tls has a cert or a key and not the other: give both');
  return secureCredentials(tls);
}

/** Throws `invalid-argument` for a token that no hub would look at. An empty one is none, which a hub may not ask for. */
export function checkToken(token: string): void {
  const fault = token === '' ? undefined : tokenFault(token);
  if (fault !== undefined) throw new HubError('invalid-argument', fault);
}
