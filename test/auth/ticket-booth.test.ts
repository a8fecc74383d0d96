import { expect, test } from 'vitest';
import { openAuthenticator, type Principal, ticketBooth } from '../../src/auth/index.ts';
import type { Clock } from '../../src/flow/clock.ts';

class TestClock implements Clock {
  ms = 1000;
  now = (): number => this.ms;
  monotonic = (): number => this.ms;
  after = (): (() => void) => () => undefined;
}

const ann: Principal = { ...(await openAuthenticator().authenticate({})), subject: 'ann' };

test('a ticket works once', async () => {
  const booth = ticketBooth();
  const ticket = booth.issue(ann);
  expect(ticket).toMatch(/^[A-Za-z0-9_-]{43}$/);
  expect(booth.redeem(ticket)).toBe(ann);
  expect(booth.redeem(ticket)).toBeUndefined();
  await expect(booth.authenticate({ ticket })).rejects.toMatchObject({ code: 'unauthenticated' });
  expect(booth.redeem('never issued')).toBeUndefined();
});

test('a ticket is over after its time, and so is one whose owner is', () => {
  const clock = new TestClock();
  const booth = ticketBooth({ clock });
  const [early, late] = [booth.issue(ann), booth.issue(ann)];
  clock.ms += 29_999;
  expect(booth.redeem(early)).toBe(ann);
  clock.ms += 1;
  expect(booth.redeem(late)).toBeUndefined();
  const ofExpired = booth.issue({ ...ann, expiresAtMs: clock.ms + 5 });
  clock.ms += 5;
  expect(booth.redeem(ofExpired)).toBeUndefined();
});

test('no more tickets than the limit are out at once; old ones make room', () => {
  const clock = new TestClock();
  const booth = ticketBooth({ clock, maxTickets: 2, ttlMs: 1000 });
  booth.issue(ann);
  booth.issue(ann);
  expect(() => booth.issue(ann)).toThrow('2 tickets are out already');
  clock.ms += 1000;
  booth.issue(ann);
  expect(booth.size).toBe(1);
});

test.each([{ ttlMs: 30_001 }, { ttlMs: 0 }, { ttlMs: Number.NaN }, { maxTickets: 0 }, { maxTickets: 1.5 }])(
  '%j is refused',
  (options) => {
    expect(() => ticketBooth(options)).toThrow(/it has to be/);
  },
);
