import { expect, test } from 'vitest';
import { grpcTransport } from '../../src/grpc/index.ts';
import { testCommand } from '../../src/testing/index.ts';

test('callers that try again at once, for ever, do not keep their process from doing anything else', async () => {
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
  const lane = async (): Promise<void> => {
    for (; !hasRung && attempts < 20_000; attempts++) await attempt();
  };
  await Promise.all(Array.from({ length: 10 }, lane));
  expect(hasRung).toBe(true);
  await transport.close();
});
