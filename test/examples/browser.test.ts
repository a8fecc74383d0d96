import { type Browser, chromium } from 'playwright-core';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { chromiumPath } from '../../scripts/debian.ts';
import { describeNeeding } from '../support/needs.ts';
import { startExample } from './run.ts';

describeNeeding('chromium', 'the example pages in a real browser', () => {
  let browser: Browser;
  beforeAll(async () => {
    const args = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'];
    browser = await chromium.launch({ executablePath: chromiumPath() ?? 'chromium', args });
  });
  afterAll(() => browser?.close());

  async function pageAt(path: string) {
    const program = startExample('browser/serve.ts');
    const [, origin] = await program.says(/signalbox\/browser: +(http:\S+)\//);
    await program.says(/native EventSource/);
    const page = await browser.newPage();
    const errors: string[] = [];
    page.on('pageerror', (error) => errors.push(String(error)));
    onTestFinished(async () => {
      await page.close();
      expect(errors).toEqual([]);
    });
    await page.goto(`${origin}${path}`);
    return page;
  }

  test('index.html lists devices, sends a command and shows what becomes of it', async () => {
    const page = await pageAt('/');
    await page.getByText('pump-1: connected').waitFor();
    await page.getByText('pump-2: connected').waitFor();
    await page.click('#start');
    await page.getByText('start: succeeded').waitFor();
    await page.getByText('pump.state {"running":true,"rpm":1200}').waitFor();
    expect(await page.getByText('start: delivered').count()).toBe(1);
  });

  test('native.html hears events through EventSource and a ticket', async () => {
    const page = await pageAt('/native.html');
    await page.getByText('client.pump-1 temperature').first().waitFor();
  });
});
