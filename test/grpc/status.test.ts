import { Metadata, status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { HubError, type HubErrorCode } from '../../src/errors.ts';
import { errorOfStatus, grpcStatus, statusOfError } from '../../src/grpc/status.ts';

test.each(Object.keys(grpcStatus) as HubErrorCode[])('%s comes back as it went', (code) => {
  const error = new HubError(code, 'a message', { retryAfterMs: 700, deviceCode: 'too hot: °', commandId: 'cmd-1' });
  expect(errorOfStatus(statusOfError(error))).toMatchObject({
    code,
    message: code === 'internal' ? 'internal error' : 'a message',
    retryAfterMs: 700,
    deviceCode: 'too hot: °',
    commandId: 'cmd-1',
  });
});

test('half a surrogate pair, also one that was cut, breaks no call', () => {
  const texts = ['\ud83d', `${'x'.repeat(1_999)}\u{1f600}`];
  for (const text of texts) {
    const { details } = statusOfError(new HubError('not-found', text, { deviceCode: text, commandId: text }));
    expect(details.length).toBeLessThanOrEqual(2_000);
    expect(() => encodeURI(details)).not.toThrow();
  }
});

test.each([
  [status.CANCELLED, 'unavailable'],
  [status.UNAVAILABLE, 'unavailable'],
  [status.UNIMPLEMENTED, 'unimplemented'],
  [status.UNAUTHENTICATED, 'unauthenticated'],
  [99, 'internal'],
])('status %i of another server is %s', (code, expected) => {
  expect(errorOfStatus({ code, details: '', metadata: new Metadata() })).toMatchObject({
    code: expected,
    message: `the call ended with gRPC status ${code}`,
  });
});

test('words in the metadata that are none of ours are not believed', () => {
  const metadata = new Metadata();
  metadata.set('signalbox-code', '__proto__');
  metadata.set('signalbox-retry-after-ms', 'soon');
  metadata.set('signalbox-device-code', '%E0%A4%A');
  const error = errorOfStatus({ code: status.NOT_FOUND, details: 'gone', metadata });
  expect(error).toMatchObject({ code: 'not-found', deviceCode: '%E0%A4%A' });
  expect(error.retryAfterMs).toBeUndefined();
});
