import { HealthDefinition, HealthServiceImpl, HealthState } from 'nice-grpc-server-health';
import { type GrpcService, grpcService } from './service.ts';

/** The standard health service, and the switch for it. */
export interface Health {
  readonly service: GrpcService;
  /** Says for the server and each of its services whether it takes calls. */
  setServing(isServing: boolean): void;
}

/** `grpc.health.v1` for the given services. Needs no credential, as probes have none. */
export function createHealth(serviceNames: readonly string[]): Health {
  const state = HealthState();
  state.setMaxListeners(0);
  return {
    service: grpcService(HealthDefinition, HealthServiceImpl(state), { isOpen: true }),
    setServing(isServing) {
      for (const name of ['', ...serviceNames]) state.setStatus(isServing ? 'healthy' : 'unhealthy', name);
    },
  };
}
