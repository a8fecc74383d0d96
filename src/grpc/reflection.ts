import type { ServiceDefinition } from '@grpc/grpc-js';
import { ServerReflection, ServerReflectionService } from 'nice-grpc-server-reflection';
import { descriptors } from './descriptors.ts';
import { type GrpcService, grpcService } from './service.ts';

/** Server reflection in both of its versions, so that `buf curl` and grpcurl need no .proto files. No credential. */
export function reflectionServices(serviceNames: readonly string[]): GrpcService[] {
  const implementation = ServerReflection(Buffer.from(descriptors, 'base64'), [...serviceNames]);
  return [ServerReflectionService, asAlpha(ServerReflectionService)].map((definition) =>
    grpcService(definition as typeof ServerReflectionService, implementation, { isOpen: true }),
  );
}

/** The same messages under the older name, which many tools still ask for. */
function asAlpha(definition: ServiceDefinition): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(definition).map(([name, method]) => [
      name,
      { ...method, path: method.path.replace('reflection.v1.', 'reflection.v1alpha.') },
    ]),
  );
}
