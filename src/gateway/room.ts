import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Clock } from '../flow/clock.ts';
import type { PayloadJson } from '../schemas/payload-json.ts';
import type { GatewayHub, GatewayLimits, GatewayOptions, Tickets } from './options.ts';
import type { Streams } from './sse/streams.ts';

/** What the routes work with. */
export interface Room {
  readonly hub: GatewayHub;
  readonly options: GatewayOptions;
  readonly streams: Streams;
  readonly tickets: Tickets;
  readonly types: PayloadJson | undefined;
  readonly limits: Required<GatewayLimits>;
  readonly clock: Clock;
  isDraining(): boolean;
}

/** Fastify with zod schemas: what a route declares is what its handler gets. */
export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypeProvider
>;
