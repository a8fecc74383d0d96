import { setTimeout as wait } from 'node:timers/promises';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { chromiumPath } from '../../../scripts/debian.ts';
import { jwtAuthenticator, mintToken } from '../../../src/auth/index.ts';
import { faultProxy } from '../../../src/testing/index.ts';
import { describeNeeding } from '../../support/needs.ts';
import { openHub } from './hub.ts';

const quiet = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];

describeNeeding('chromium', 'the page in a real browser', () => {
  let browser: Browser;
  beforeAll(async () => {
    const args = [...quiet, '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];
    browser = await chromium.launch({ executablePath: chromiumPath() ?? 'chromium', args });
  });
  afterAll(() => browser?.close());

  /** The page in a window of its own; whatever it complains about in its console fails the test. */
  async function open(url: string, options: BrowserContextOptions & { mayComplain?: RegExp } = {}): Promise<Page> {
    const { mayComplain, ...more } = options;
    const context = await browser.newContext({ locale: 'en-GB', ...more });
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => {
      const text = message.text();
      // The hub of a test is closed before its page is.
      const isExpected = /net::ERR_CONNECTION/.test(text) || mayComplain?.test(text);
      if (['error', 'warning'].includes(message.type()) && !isExpected) complaints.push(text);
    });
    onTestFinished(async () => {
      await context.close();
      expect(complaints).toEqual([]);
    });
    await page.goto(url);
    return page;
  }

  const badge = (page: Page, state: string) => page.locator(`#badge[data-state="${state}"]`).waitFor();
  const device = (page: Page, id: string, connected: boolean) =>
    page.locator(`[data-client="${id}"][data-connected="${connected}"]`).waitFor();
  const updates = (page: Page) => page.locator('#updates .state').allTextContents();
  async function picture(page: Page, name: string): Promise<void> {
    const folder = process.env.SIGNALBOX_SCREENSHOTS;
    if (folder !== undefined) await page.screenshot({ path: `${folder}/${name}.png`, fullPage: true });
  }

  test('it shows devices as they come and go, with their labels', async () => {
    await using hub = await openHub();
    await hub.pump('pump-1', { site: 'north', line: '4' });
    const page = await open(hub.url);
    await badge(page, 'live');
    await device(page, 'pump-1', true);
    expect(await page.locator('[data-client="pump-1"] .label').allTextContents()).toEqual(['site=north', 'line=4']);
    const second = await hub.pump('pump-2', { site: 'south' });
    await device(page, 'pump-2', true);
    expect(await page.locator('#device-count').textContent()).toBe('2 of 2 connected');
    await second.close();
    await device(page, 'pump-2', false);
    expect(await page.locator('#device-count').textContent()).toBe('1 of 2 connected');
    await picture(page, 'devices');
  });

  test('it sends a command and shows its updates up to the result', async () => {
    await using hub = await openHub();
    await hub.pump('pump-1');
    const page = await open(hub.url);
    await device(page, 'pump-1', true);
    await page.locator('#payload').fill('{"rpm": 1200}');
    await page.getByRole('button', { name: 'Send' }).click();
    const done = page.locator('.update[data-state="succeeded"]');
    await done.waitFor();
    expect(await done.locator('pre').textContent()).toBe('{"rpm":1200}');
    const states = await updates(page);
    expect(states[0]).toBe('queued');
    expect(states).toContain('progress');
    expect(states.at(-1)).toBe('succeeded');
    await page.locator('.event[data-channel="client.pump-1"]', { hasText: 'command.succeeded' }).waitFor();

    await page.getByRole('button', { name: 'tailLog' }).click();
    await page.locator('#payload').fill('{"lines": 3, "intervalMs": 10}');
    await page.getByRole('button', { name: 'Send' }).click();
    await done.waitFor();
    expect((await updates(page)).filter((state) => state === 'progress')).toHaveLength(3);
    await picture(page, 'command');
    await page.emulateMedia({ colorScheme: 'dark' });
    await picture(page, 'command-dark');
  });

  test('it says what is wrong with a command, and where', async () => {
    await using hub = await openHub();
    const pump = await hub.pump('pump-1');
    const page = await open(hub.url, { mayComplain: /status of (400|503)/ });
    await device(page, 'pump-1', true);
    const problem = page.locator('#command-problem');
    await page.locator('#payload').fill('{"rpm": ');
    await page.getByRole('button', { name: 'Send' }).click();
    await problem.filter({ hasText: 'not JSON' }).waitFor();
    expect(await page.locator('#payload').getAttribute('aria-invalid')).toBe('true');
    await page.locator('#payload').fill('{"speed": 1200}');
    await page.getByRole('button', { name: 'Send' }).click();
    await problem.filter({ hasText: 'speed' }).waitFor();
    await pump.close();
    await device(page, 'pump-1', false);
    await page.locator('#payload').fill('{"rpm": 1200}');
    await page.getByRole('button', { name: 'Send' }).click();
    await problem.filter({ hasText: 'pump-1' }).waitFor();
    await picture(page, 'problem');
  });

  test('it can cancel a running command', async () => {
    await using hub = await openHub();
    await hub.pump('pump-1');
    const page = await open(hub.url);
    await device(page, 'pump-1', true);
    await page.getByRole('button', { name: 'tailLog' }).click();
    await page.locator('#payload').fill('{"lines": 1000, "intervalMs": 50}');
    await page.getByRole('button', { name: 'Send' }).click();
    await page.locator('.update[data-state="progress"]').first().waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.locator('.update[data-state="cancelled"]').waitFor();
  });

  test('it loses the hub for five seconds and catches up without a gap', async () => {
    await using hub = await openHub();
    const pump = await hub.pump('pump-1');
    const proxy = await faultProxy({ target: `127.0.0.1:${hub.port}` });
    onTestFinished(() => proxy.close());
    const page = await open(`http://${proxy.address}`, { mayComplain: /net::ERR_|Failed to load resource/ });
    await badge(page, 'live');
    await device(page, 'pump-1', true);
    const row = (number: number) =>
      page.locator('.event[data-channel="client.pump-1"]', { hasText: `{"number":${number}}` });

    let number = 0;
    const tick = () => {
      number += 1;
      return pump.emit('tick', { number });
    };
    tick();
    // The stream of the selected client is opened after the list; from its first event on nothing may be missing.
    while ((await row(number).count()) === 0) {
      await wait(50);
      tick();
    }
    for (let count = 0; count < 10; count += 1) tick();
    proxy.block();
    proxy.cutAll();
    await badge(page, 'reconnecting');
    for (let count = 0; count < 50; count += 1) {
      tick();
      await wait(100);
    }
    await picture(page, 'reconnecting');
    proxy.unblock();
    await badge(page, 'caught-up');
    tick();
    await row(number).waitFor();
    await picture(page, 'caught-up');
    await badge(page, 'live');

    const shown = (await page.locator('.event[data-channel="client.pump-1"] pre').allTextContents())
      .map((text) => (JSON.parse(text) as { number?: number }).number)
      .filter((found) => found !== undefined)
      .reverse();
    expect(shown).toEqual(Array.from({ length: shown.length }, (_, index) => number - shown.length + 1 + index));
    expect(shown.length).toBeGreaterThan(60);
    expect(await page.locator('.event[data-kind="gap"]').count()).toBe(0);
  });

  test('it asks for a token when the hub wants one, and says when one is refused', async () => {
    const secret = 'a secret of at least thirty-two bytes';
    const identity = { issuer: 'signalbox', audience: 'signalbox' };
    await using hub = await openHub({ authenticator: jwtAuthenticator({ secret, ...identity }) });
    await hub.pump('pump-1');
    const page = await open(hub.url, { mayComplain: /status of 401/ });
    await page.getByLabel('Token', { exact: true }).waitFor();
    await badge(page, 'token');
    await page.getByLabel('Token', { exact: true }).fill('nonsense');
    await page.getByRole('button', { name: 'Use it' }).click();
    await page.locator('#token-problem:not(:empty)').waitFor();
    await picture(page, 'token');
    const token = await mintToken({
      secret,
      ...identity,
      subject: 'ann',
      scopes: ['clients:read', 'events:read', 'commands:send'],
      ttlMs: 60_000,
    });
    await page.getByLabel('Token', { exact: true }).fill(token);
    await page.getByRole('button', { name: 'Use it' }).click();
    await badge(page, 'live');
    await device(page, 'pump-1', true);
    expect(await page.locator('#token-form').isHidden()).toBe(true);
  });

  test('it shows what devices say as text, whatever they say', async () => {
    await using hub = await openHub();
    const evil = '<img src=x onerror="document.title=1">';
    const pump = await hub.pump('pump-1', { note: evil });
    const page = await open(hub.url);
    await device(page, 'pump-1', true);
    expect(await page.locator('.label').textContent()).toBe(`note=${evil}`);
    const event = page.locator('.event', { hasText: 'evil' });
    // Until the client's own stream is open nobody hears of its events.
    while ((await event.count()) === 0) {
      pump.emit('evil', { text: evil });
      await wait(50);
    }
    expect(await page.locator('main img').count()).toBe(0);
    expect(await page.title()).toBe('Signalbox');
  });

  test('it fits a phone', async () => {
    await using hub = await openHub();
    await hub.pump('pump-with-quite-a-long-name-to-show', { site: 'north', building: 'old-mill', floor: '3' });
    const page = await open(hub.url, { viewport: { width: 360, height: 740 } });
    await device(page, 'pump-with-quite-a-long-name-to-show', true);
    await page.getByRole('button', { name: 'Send' }).click();
    await page.locator('.update[data-state="succeeded"]').waitFor();
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(360);
    await picture(page, 'phone');
  });

  test('it can be used with the keyboard alone', async () => {
    await using hub = await openHub();
    await hub.pump('pump-1');
    const page = await open(hub.url);
    await device(page, 'pump-1', true);
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement.dataset.client')).toBe('pump-1');
    await page.locator('#payload').focus();
    await page.keyboard.press('Control+Enter');
    await page.locator('.update[data-state="succeeded"]').waitFor();
  });

  test('the documentation of the HTTP API keeps to its own policy', async () => {
    await using hub = await openHub();
    const page = await open(`${hub.url}/docs`);
    await page.getByText('/v1/clients/{id}/commands').first().waitFor();
  });

  test("the browser's own EventSource watches with a one-use ticket", async () => {
    const secret = 'a secret of at least thirty-two bytes';
    const identity = { issuer: 'signalbox', audience: 'signalbox' };
    await using hub = await openHub({ authenticator: jwtAuthenticator({ secret, ...identity }) });
    const token = await mintToken({ secret, ...identity, subject: 'ann', scopes: ['events:read'], ttlMs: 60_000 });
    const page = await open(`${hub.url}/health`, { mayComplain: /status of (401|404)/ });
    const script = `(async () => {
      const { eventSourceUrl } = await import('/browser/index.js');
      const url = await eventSourceUrl({ channels: ['fleet'], getToken: () => ${JSON.stringify(token)} });
      window.source = new EventSource(url);
      window.heard = new Promise((resolve) =>
        source.addEventListener('client.connected', (event) => resolve(JSON.parse(event.data).data)));
      await new Promise((resolve, reject) => { source.onopen = resolve; source.onerror = reject; });
      const again = await fetch(url);
      return again.status;
    })()`;
    expect(await page.evaluate(script)).toBe(401);
    await hub.pump('pump-1');
    expect(JSON.stringify(await page.evaluate('window.heard'))).toContain('pump-1');
  });
});
