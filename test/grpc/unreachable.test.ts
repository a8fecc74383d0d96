import { expect, test } from 'vitest';
import { grpcTransport } from '../../src/grpc/index.ts';
import { testCommand } from '../../src/testing/index.ts';

test('a caller that tries again at once, for ever, does not keep its process from doing anything else', async () => {
  // Nobody listens on port 1.
  const transport = grpcTransport({ address: '127.0.0.1:1' });
  const attempt = (): Promise<unknown> =>
    transport
      .send(testCommand())
      [Symbol.asyncIterator]()
      .next()
      .catch((error: unknown) => error);
  expect(await attempt()).toMatchObject({ code: 'unavailable' });
  let hasRung = false;
  setTimeout(() => {
    hasRung = true;
  }, 1);
  let attempts = 0;
  for (; !hasRung && attempts < 20_000; attempts++) await attempt();
  expect(hasRung).toBe(true);
  await transport.close();
});
