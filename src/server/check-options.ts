import * as z from 'zod';
import { HubError, toHubError } from '../errors.ts';
import { didYouMean } from '../schemas/index.ts';
import { parseAddress } from './addresses.ts';
import { roles, type ServeOptions, taskEngines } from './options.ts';
import { type PresetName, presets } from './presets.ts';

/** Throws `invalid-argument` naming the option at fault, and where it stands. Nothing is filled in. */
export function checkOptions(options: unknown, from: string): CheckedOptions {
  const parsed = schema.safeParse(options);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0]!;
    throw new HubError('invalid-argument', `unknown option "${key}" in ${from}${didYouMean(key, optionNames)}`);
  }
  const name = issue.path.join('.');
  throw new HubError('invalid-argument', `${from}: ${name === '' ? '' : `${name}: `}${issue.message}`);
}

const addresses = z.unknown().transform((value, context): string[] | false => {
  if (value === false) return false;
  const list: unknown[] = Array.isArray(value) ? value : [value];
  const refuse = (message: string): void => context.addIssue({ code: 'custom', message });
  if (list.length === 0) refuse('an empty list serves nothing; write false to switch it off');
  for (const each of list)
    try {
      parseAddress(String(each));
    } catch (error) {
      refuse(toHubError(error).message);
    }
  return list.map(String);
});
const ms = (least: number, most = 2 ** 31 - 1) => z.number().int().min(least).max(most);
const count = (most: number) => z.number().int().min(1).max(most);
const bytes = z.number().int().min(1024);
const text = z.string().min(1).max(4096);

const schema = z.strictObject({
  grpc: addresses.optional(),
  http: addresses.optional(),
  data: text.optional(),
  auth: z.enum(['none', 'jwt', 'mtls']).optional(),
  authSecretFile: text.optional(),
  authJwks: z.url({ protocol: /^https$/, error: 'must be an https URL' }).optional(),
  authIssuer: text.optional(),
  authAudience: text.optional(),
  tlsCert: text.optional(),
  tlsKey: text.optional(),
  tlsCa: text.optional(),
  hosts: z.array(text).max(100).optional(),
  origins: z.array(z.url()).max(100).optional(),
  preset: z.enum(Object.keys(presets) as [PresetName, ...PresetName[]]).optional(),
  node: z
    .string()
    .regex(/^[A-Za-z0-9._-]{1,64}$/, 'must be 1 to 64 of A-Z a-z 0-9 . _ -')
    .optional(),
  redis: z
    .string()
    .regex(
      /^(rediss?|unix|redis\+sentinel):\/\//,
      'must be redis://host:port, rediss://host:port, redis+sentinel://host:port/name or unix:///path',
    )
    .optional(),
  redisPrefix: z
    .string()
    .regex(/^[A-Za-z0-9_.:-]{1,64}$/, 'must be 1 to 64 of A-Z a-z 0-9 _ . : -')
    .optional(),
  redisDurability: z.enum(['stored', 'replicated', 'none']).optional(),
  redisWaitMs: ms(0, 3_600_000).optional(),
  clusterSecretFile: text.optional(),
  clusterCa: text.optional(),
  advertise: z
    .string()
    .regex(/^(unix:\/\/\/.+|(\[[^\]]+\]|[^:/\s]+):[1-9]\d{0,4})$/, 'must be host:port')
    .optional(),
  nodeLeaseMs: ms(500, 600_000).optional(),
  drainTimeoutMs: ms(0, 3_600_000).optional(),
  drainReconnectAfterMs: ms(0, 3_600_000).optional(),
  drainSpreadMs: ms(0, 3_600_000).optional(),
  opensearch: z.url({ protocol: /^https?$/, error: 'must be an http(s) URL' }).optional(),
  opensearchAuth: z.enum(['none', 'basic', 'aws']).optional(),
  opensearchUsername: text.optional(),
  opensearchPassword: text.optional(),
  opensearchPrefix: text.optional(),
  role: z.enum(roles).optional(),
  tasks: z.array(text).max(1000).optional(),
  taskConcurrency: count(100_000).optional(),
  taskEngine: z.enum(taskEngines).optional(),
  taskThreads: count(1024).optional(),
  taskProcesses: count(1024).optional(),
  maxConnections: count(1_000_000).optional(),
  maxMessageBytes: bytes.max(64 * 1024 * 1024).optional(),
  sseKeepaliveMs: ms(100).optional(),
  sseIdleLimitMs: ms(0).optional(),
  ping: z.enum(['idle', 'interval', 'off']).optional(),
  heartbeatMs: ms(100).optional(),
  livenessMs: ms(100).optional(),
  resumeWindowMs: ms(0).optional(),
  stallMs: ms(100).optional(),
  window: count(1_000_000).optional(),
  waitingCommands: count(1_000_000).optional(),
  waitingBytes: bytes.optional(),
  mailboxCommands: count(10_000_000).optional(),
  mailboxBytes: bytes.optional(),
  streamsPerUser: z.number().int().min(0).max(100_000).optional(),
  streamLeaseMs: ms(1000).optional(),
  logLevel: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).optional(),
} satisfies Record<keyof ServeOptions, z.ZodType>);

/** Options as they were given, checked one by one. */
export type CheckedOptions = z.output<typeof schema>;

/** Names of all options. */
export const optionNames = Object.keys(schema.shape) as (keyof ServeOptions)[];
