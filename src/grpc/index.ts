export type { ConnectOptions } from './channel.ts';
export type { GrpcFact } from './facts.ts';
export { type GrpcTransport, type GrpcTransportOptions, grpcTransport } from './grpc-transport.ts';
export { type HubClients, hubClients } from './hub-clients.ts';
export type { GrpcTls } from './listener.ts';
export { type Mount, type MountedAnswer, type MountedDevice, type MountOptions, mount } from './mount.ts';
export { type GrpcLimits, type GrpcServer, type GrpcServerOptions, serveGrpc } from './serve-grpc.ts';
export { type GrpcService, grpcService, type WithPrincipal } from './service.ts';
export { errorOfStatus, grpcStatus } from './status.ts';
