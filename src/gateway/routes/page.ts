import { z } from 'zod';
import type { GatewayPage } from '../options.ts';
import { RequestError } from '../problem.ts';
import type { App } from '../room.ts';

// Script and style are files of their own, and nothing from elsewhere is loaded.
const policy =
  "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; base-uri 'none'; " +
  "form-action 'none'; frame-ancestors 'none'";

/** The built-in page, and the browser library that it imports. */
export function addPageRoutes(app: App, page: GatewayPage): void {
  app.get(
    '/',
    {
      config: { access: 'open' },
      schema: {
        summary: 'The built-in page',
        tags: ['system'],
        response: { 200: { description: 'HTML', content: { 'text/html': { schema: z.string() } } } },
      },
    },
    async (_, reply) =>
      reply
        .headers({ 'content-security-policy': policy, 'referrer-policy': 'no-referrer', 'cache-control': 'no-cache' })
        .type('text/html; charset=utf-8')
        .send(page.html),
  );

  app.get(
    '/browser/*',
    {
      config: { access: 'open' },
      schema: {
        summary: 'A module of the browser library',
        tags: ['system'],
        params: z.object({ '*': z.string() }),
        response: { 200: { description: 'A file', content: { '*/*': { schema: z.string() } } } },
      },
    },
    async (request, reply) => {
      const path = request.params['*'];
      const file = isPlainPath(path) ? await page.module(path) : undefined;
      if (file === undefined) throw new RequestError('unknown-route', 'there is no such file');
      return reply
        .header('cache-control', 'no-cache')
        .type(file.type)
        .send(file.body as never);
    },
  );
}

/** True for `a/b.js`: nothing that climbs, is absolute, or means something to a file system. */
function isPlainPath(path: string): boolean {
  return path.length <= 200 && path.split('/').every((part) => /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/.test(part));
}
