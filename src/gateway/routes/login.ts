import { z } from 'zod';
import type { Login } from '../../auth/password-login.ts';
import { HubError } from '../../errors.ts';
import type { App } from '../room.ts';
import { problems } from './words.ts';

const none = (): Promise<never> =>
  Promise.reject(new HubError('unimplemented', 'nobody logs in here: the hub signs no tokens of its own (--auth jwt)'));

/** Of a hub that has no users. */
export const noLogin: Login = { login: none, refresh: none };

const loggedIn = z.object({
  user: z.string(),
  scopes: z.array(z.string()),
  token: z.string().describe('For `Authorization: Bearer`'),
  expiresInMs: z.number(),
  refreshToken: z.string().describe('For /v1/login/refresh, and nothing else'),
  refreshExpiresInMs: z.number(),
});

/** Name and password for a token. */
export function addLoginRoutes(app: App, login: Login): void {
  const response = { 200: loggedIn, ...problems };
  const config = { access: 'open' } as const;

  app.post(
    '/v1/login',
    {
      config,
      schema: {
        summary: 'Log in',
        tags: ['login'],
        body: z.strictObject({ user: z.string().min(1).max(128), password: z.string().min(1).max(1024) }),
        response,
      },
    },
    async ({ body: { user, password } }, reply) => {
      reply.header('cache-control', 'no-store');
      const { scopes, ...more } = await login.login(user, password);
      return { scopes: [...scopes], ...more };
    },
  );

  app.post(
    '/v1/login/refresh',
    {
      config,
      schema: {
        summary: 'Get the next token',
        description: 'Ends when the refresh token does, the password is changed, or the user is removed.',
        tags: ['login'],
        body: z.strictObject({ refreshToken: z.string().min(1).max(8192) }),
        response,
      },
    },
    async ({ body: { refreshToken } }, reply) => {
      reply.header('cache-control', 'no-store');
      const { scopes, ...more } = await login.refresh(refreshToken);
      return { scopes: [...scopes], ...more };
    },
  );
}
