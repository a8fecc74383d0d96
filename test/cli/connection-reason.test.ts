import { expect, test } from 'vitest';
import { connectionReason } from '../../src/cli/connection-reason.ts';

const grpcSays = (error: string) => `No connection established. Last error: ${error}. Resolution note: `;
const openssl = (what: string) =>
  `405D08D37C7F0000:error:0A00010B:SSL routines:some_function:${what}:../deps/openssl/ssl/record/methods/tlsany_meth.c:77:\n`;

test.each([
  [
    'a Redis that is not there',
    'Redis at 127.0.0.1:1 cannot be reached: connect ECONNREFUSED 127.0.0.1:1. Is it running, and is the address right?',
    'Redis at 127.0.0.1:1 cannot be reached: connect ECONNREFUSED 127.0.0.1:1. Is it running, and is the address right?',
  ],
  [
    'nobody listens',
    grpcSays('Error: connect ECONNREFUSED 127.0.0.1:1'),
    'connect ECONNREFUSED 127.0.0.1:1 (is the hub running there?)',
  ],
  [
    'a hub with TLS, spoken to without',
    grpcSays('Failed to connect (2026-01-01T03:30:16.885Z)'),
    'Failed to connect (does it speak TLS? Then use --tls or --tls-ca)',
  ],
  [
    'a hub without TLS, spoken to with it',
    grpcSays(`Error: ${openssl('wrong version number')}`),
    'TLS: wrong version number (it does not speak TLS: leave out --tls, --tls-ca and --tls-cert)',
  ],
  [
    'a hub that wants a certificate',
    grpcSays(`${openssl('tlsv13 alert certificate required').trim()}SSL alert number 116\n (2026-01-01T03:23:12.107Z)`),
    'TLS: tlsv13 alert certificate required (it wants a client certificate: --tls-cert and --tls-key)',
  ],
  [
    'an authority that is not known',
    grpcSays('Error: unable to verify the first certificate; if the root CA is installed locally, try running Node.js'),
    'unable to verify the first certificate; if the root CA is installed locally, try running Node.js (name its authority with --tls-ca)',
  ],
  [
    'the HTTP port',
    'hub at x:8080: Protocol error (2026-01-01T03:30:17.900Z)',
    'hub at x:8080: Protocol error (is that the gRPC port, not the HTTP one?)',
  ],
  [
    'the HTTPS port',
    'Received HTTP status code 404',
    'Received HTTP status code 404 (is that the gRPC port, not the HTTP one?)',
  ],
  ['anything else', 'the token is not a signed JWT', 'the token is not a signed JWT'],
])('%s is told in plain words', (_, message, plain) => {
  expect(connectionReason(message)).toBe(plain);
});

test('what goes before the reason stays', () => {
  expect(connectionReason(`hub at x:1: ${grpcSays(`Error: ${openssl('wrong version number')}`)}`)).toMatch(
    /^hub at x:1: TLS: wrong version number \(/,
  );
});
