export type { GatewayFact } from './facts.ts';
export {
  defaultLimits,
  type GatewayHub,
  type GatewayLimits,
  type GatewayOptions,
  type GatewayPage,
  type Readiness,
  type Tickets,
} from './options.ts';
export { httpStatus, type Problem, type ProblemCode } from './problem.ts';
export { type Gateway, serveGateway } from './serve-gateway.ts';
export type { StreamEnd } from './sse/watcher.ts';
