import { constants, type ServerHttp2Stream } from 'node:http2';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import Fastify, { type FastifyError, type FastifyReply, type FastifyRequest } from 'fastify';
import {
  createJsonSchemaTransform,
  jsonSchemaTransformObject,
  validatorCompiler,
  type ZodTypeProvider,
} from 'fastify-type-provider-zod';
import { toHubError } from '../errors.ts';
import { addAccess } from './access.ts';
import type { GatewayFact } from './facts.ts';
import { addGuards } from './guards.ts';
import { parseJsonBody } from './json-body.ts';
import { problem, problemHeaders, problemOf, problemType, RequestError } from './problem.ts';
import type { App, Room } from './room.ts';
import { RouteTable } from './route-table.ts';
import { addArchiveRoutes, noArchive } from './routes/archive.ts';
import { addChannelRoutes } from './routes/channels.ts';
import { addClientRoutes } from './routes/clients.ts';
import { addCommandRoutes } from './routes/commands.ts';
import { addEventRoutes } from './routes/events.ts';
import { addLoginRoutes, noLogin } from './routes/login.ts';
import { addPageRoutes } from './routes/page.ts';
import { addSendRoute } from './routes/send-command.ts';
import { addSystemRoutes } from './routes/system.ts';
import { addTaskRoutes } from './routes/tasks.ts';
import { addTicketRoutes } from './routes/tickets.ts';
import { addWebSocketRoute } from './routes/ws.ts';
import { streamHeaders } from './sse/stream-headers.ts';

/** All routes and what stands before them, without a server. */
export async function createApp(room: Room, allowedHosts: readonly string[] | undefined): Promise<App> {
  const { options, limits } = room;
  const observe = options.observe ?? (() => undefined);
  const app = Fastify({
    bodyLimit: limits.bodyBytes,
    routerOptions: { maxParamLength: 512 },
    frameworkErrors: (error, request, reply) => answerError(error, request, reply),
  }).withTypeProvider<ZodTypeProvider>();

  const answerError = (error: unknown, request: FastifyRequest, reply: FastifyReply): void => {
    const answer = problemOf(error);
    if (answer.status === 500)
      observe({
        kind: 'request-failed',
        method: request.method,
        route: request.routeOptions?.url ?? '',
        error: toHubError(error),
      });
    if (error instanceof RequestError) reply.headers(error.headers);
    reply.headers(problemHeaders(answer)).code(answer.status).type(problemType).send(JSON.stringify(answer));
  };

  app.setValidatorCompiler(validatorCompiler);
  // Response schemas describe; answers are made by our own code and need no check at run time.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.setErrorHandler<FastifyError>(answerError);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_, body, done) => {
    try {
      done(null, parseJsonBody(body as Buffer));
    } catch (error) {
      done(error as Error);
    }
  });

  const routes = new RouteTable();
  app.addHook('onRoute', ({ method, url }) => routes.add([method].flat(), url));
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0]!;
    const allow = routes.methodsOf(path);
    if (allow === undefined) throw new RequestError('unknown-route', `there is nothing at ${path.slice(0, 200)}`);
    if (request.method === 'OPTIONS') return reply.header('allow', allow).code(204).send();
    throw new RequestError('method-not-allowed', `${request.method} is not for ${path.slice(0, 200)}: ${allow}`, {
      allow,
    });
  });

  addRequestFacts(app, room, observe);
  addGuards(app, { allowedHosts, allowedOrigins: options.allowedOrigins ?? [] });
  addAccess(app, options.authenticator, room.tickets);
  addRequestDeadline(app, room);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Signalbox',
        description: 'Commands to devices over their live streams, and everything that happens, to watch.',
        version: '1',
      },
      components: { securitySchemes: { token: { type: 'http', scheme: 'bearer' } } },
      security: [{ token: [] }],
    },
    transform: createJsonSchemaTransform({ skipList: [] }),
    transformObject: jsonSchemaTransformObject,
  });
  await app.register(async (docs) => {
    docs.addHook('onRoute', (route) => {
      route.config = { ...route.config, access: 'open' };
    });
    await docs.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: true,
      // Without the bar at the top, whose logo brings an inline style that our policy forbids.
      uiConfig: { layout: 'BaseLayout' },
      theme: { title: 'Signalbox HTTP API' },
    });
  });

  addEventRoutes(app, room);
  addWebSocketRoute(app, room);
  addClientRoutes(app, room);
  addSendRoute(app, room);
  addCommandRoutes(app, room);
  addChannelRoutes(app, room);
  addTicketRoutes(app, room);
  addArchiveRoutes(app, options.archive ?? noArchive);
  addLoginRoutes(app, options.login ?? noLogin);
  if (options.tasks !== undefined) addTaskRoutes(app, room, options.tasks);
  addSystemRoutes(app, room);
  if (options.page !== undefined) addPageRoutes(app, options.page);
  await app.ready();
  return app;
}

/** Tells of every request, also of those whose caller left before the answer. */
function addRequestFacts(app: App, { clock }: Room, observe: (fact: GatewayFact) => void): void {
  app.addHook('onRequest', async (request, reply) => {
    const startMs = clock.monotonic();
    reply.raw.once('close', () => {
      // How long a stream was open is told by its own fact, and is no measure of speed.
      if (reply.raw.getHeader('content-type') === streamHeaders['content-type']) return;
      observe({
        kind: 'request-ended',
        method: request.method,
        route: request.routeOptions.url ?? 'unknown',
        status: reply.raw.statusCode,
        isComplete: reply.raw.writableFinished,
        durationMs: clock.monotonic() - startMs,
      });
    });
  });
}

/** Cuts a request whose body does not come, or an answer that is not read: node does so for HTTP/1.1 only. */
function addRequestDeadline(app: App, { clock, limits }: Room): void {
  app.addHook('onRequest', async (request) => {
    const stream = (request.raw as { stream?: ServerHttp2Stream }).stream;
    stream?.setTimeout(limits.requestMs, () => {
      if (stream.writableLength > 0) stream.close(constants.NGHTTP2_CANCEL);
    });
  });
  app.addHook('preParsing', async (request, reply) => {
    if (request.raw.httpVersionMajor !== 2 || request.raw.complete) return;
    const stop = clock.after(limits.requestMs, () => {
      if (!request.raw.complete && !reply.sent) reply.raw.destroy();
    });
    request.raw.once('end', stop);
    reply.raw.once('close', stop);
  });
}

/** The answer to bytes that are no request, for the bare socket. */
export function malformedAnswer(code: string | undefined): string {
  const answer =
    code === 'HPE_HEADER_OVERFLOW'
      ? problem('headers-too-large', 'the request headers are larger than this gateway takes')
      : code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? problem('request-timeout', 'the request did not come to its end in time')
        : problem('malformed-request', 'this is not an HTTP request');
  const body = JSON.stringify(answer);
  const words: Record<number, string> = { 400: 'Bad Request', 408: 'Request Timeout', 431: 'Header Fields Too Large' };
  return (
    `HTTP/1.1 ${answer.status} ${words[answer.status] ?? ''}\r\nContent-Type: ${problemType}\r\n` +
    `Content-Length: ${Buffer.byteLength(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n${body}`
  );
}
