export { schemasFromDescriptors } from './from-descriptors.ts';
export { type ProtoTextOptions, schemasFromProto } from './from-proto.ts';
export { schemasFromReflection } from './from-reflection.ts';
export { didYouMean, nearest } from './nearest.ts';
export type { DeviceMethod, PayloadJson, PayloadSource } from './payload-json.ts';
export { Schemas } from './schemas.ts';
