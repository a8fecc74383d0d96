/** What went wrong between here and the hub, without what grpc-js and OpenSSL say around it, and what to look at first. */
export function connectionReason(message: string): string {
  const reason = message
    .replace(/No connection established\. Last error: (?:Error: )?(.*?)\. Resolution note: ?/s, '$1')
    .replace(/(?:Error: )?[0-9A-F]{8,}:error:[0-9A-F]+:SSL routines:\w+:([^:]+):[^:]+:\d+:[^;]*/, 'TLS: $1')
    .replace(/ ?\(\d{4}-\d\d-\d\dT[\d:.]+Z\)/, '')
    .trim();
  const hint = hints.find(([pattern]) => pattern.test(reason))?.[1];
  return hint === undefined ? reason : `${reason} (${hint})`;
}

const hints: readonly (readonly [RegExp, string])[] = [
  [/^(?!Redis ).*(?:\bECONNREFUSED\b|\bENOENT\b.*\.sock)/s, 'is the hub running there?'],
  [/Failed to connect$/, 'does it speak TLS? Then use --tls or --tls-ca'],
  [/TLS: wrong version number$/, 'it does not speak TLS: leave out --tls, --tls-ca and --tls-cert'],
  [/alert certificate required$|alert bad certificate$/, 'it wants a client certificate: --tls-cert and --tls-key'],
  [/unable to verify|self.signed certificate|unable to get local issuer/, 'name its authority with --tls-ca'],
  [/Protocol error$|Received HTTP status code 4\d\d$/, 'is that the gRPC port, not the HTTP one?'],
];
