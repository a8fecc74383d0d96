export * from '../../src/grpc/index.ts';
