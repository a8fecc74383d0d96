import { requireScope } from '../auth/access.ts';
import { ClusterServiceDefinition, type Node } from '../protocol/gen/signalbox/v1/cluster.ts';
import { type GrpcService, grpcService } from './service.ts';

/** Tells which nodes make up the hub. Needs the scope `clients:read`. */
export function clusterService(nodes: () => Promise<readonly Node[]>): GrpcService {
  return grpcService(ClusterServiceDefinition, {
    async listNodes(_request, { principal }) {
      requireScope(principal, 'clients:read');
      return { nodes: [...(await nodes())] };
    },
  });
}
