import { existsSync, readFileSync } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { HubError, toHubError } from '../errors.ts';
import { type CheckedOptions, checkOptions, optionNames } from './check-options.ts';
import type { ResolvedOptions, ServeOptions } from './options.ts';
import { resolveOptions } from './resolve-options.ts';

/** Where `loadOptions` looks. */
export interface OptionSources {
  /** What the program says itself; wins over everything. */
  overrides?: ServeOptions;
  /** Path of a config file. Default: `SIGNALBOX_CONFIG`, else `signalbox.config.(json|ts|js|mjs)` in `cwd` if there. */
  config?: string;
  /** Default: `process.env`. */
  env?: Readonly<Record<string, string | undefined>>;
  /** Default: `process.cwd()`. */
  cwd?: string;
}

/**
 * Options from code, over `SIGNALBOX_*` variables, over the config file, over the defaults. Throws `invalid-argument`
 * naming the option and where it stands.
 */
export async function loadOptions({
  overrides = {},
  config,
  env = process.env,
  cwd = process.cwd(),
}: OptionSources = {}): Promise<ResolvedOptions> {
  const asked = config ?? env.SIGNALBOX_CONFIG;
  const file = asked === undefined ? findConfig(cwd) : resolve(cwd, asked);
  const fromFile =
    file === undefined ? {} : relativeTo(dirname(file), checkOptions(await readConfig(file), basename(file)));
  return resolveOptions({ ...fromFile, ...optionsFromEnv(env), ...withoutUndefined(overrides) } as ServeOptions);
}

/** The variable of an option: `drainTimeoutMs` is `SIGNALBOX_DRAIN_TIMEOUT_MS`. */
export function variableOf(option: keyof ServeOptions): string {
  return `SIGNALBOX_${option.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** What the environment says. Other variables that start with `SIGNALBOX_` are left alone: orchestrators set such. */
function optionsFromEnv(env: Readonly<Record<string, string | undefined>>): ServeOptions {
  const options: Record<string, unknown> = {};
  for (const option of optionNames) {
    const value = env[variableOf(option)];
    if (value === undefined || value === '') continue;
    options[option] = parseVariable(option, value);
    checkOptions({ [option]: options[option] }, variableOf(option));
  }
  // As other programs call it.
  if (options.redis === undefined && env.REDIS_URL)
    options.redis = checkOptions({ redis: env.REDIS_URL }, 'REDIS_URL').redis;
  if (options.opensearch === undefined && env.OPENSEARCH_HOST) Object.assign(options, openSearchFromEnv(env));
  return options as ServeOptions;
}

/** The variables by which other programs are told of OpenSearch. */
function openSearchFromEnv(env: Readonly<Record<string, string | undefined>>): ServeOptions {
  const isSecure = /^(1|true|yes)$/i.test(env.OPENSEARCH_USE_SSL ?? '');
  const found = {
    opensearch: `${isSecure ? 'https' : 'http'}://${env.OPENSEARCH_HOST}:${env.OPENSEARCH_PORT || 9200}`,
    opensearchAuth: env.OPENSEARCH_AUTH_TYPE || undefined,
    opensearchUsername: env.OPENSEARCH_USERNAME || undefined,
    opensearchPassword: env.OPENSEARCH_PASSWORD || undefined,
  };
  return checkOptions(found, 'the OPENSEARCH_* variables') as ServeOptions;
}

/** Where requests to AWS take their signature from. Throws `unavailable` when the variables are not set. */
export async function awsCredentials(
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<{ accessKeyId: string; secretAccessKey: string; sessionToken?: string }> {
  const {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_SESSION_TOKEN: sessionToken,
  } = env;
  if (!accessKeyId || !secretAccessKey)
    throw new HubError('unavailable', 'opensearchAuth "aws" needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY');
  return { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }) };
}

export const awsRegion = (env: Readonly<Record<string, string | undefined>> = process.env): string =>
  env.AWS_REGION || env.AWS_DEFAULT_REGION || 'us-east-1';

function parseVariable(option: keyof ServeOptions, value: string): unknown {
  if ((option === 'grpc' || option === 'http') && value === 'false') return false;
  if (option === 'grpc' || option === 'http' || option === 'hosts' || option === 'origins' || option === 'tasks')
    return value.split(',').map((each) => each.trim());
  if (/(^task(Concurrency|Threads|Processes)|Ms|Bytes|Commands|^window|^streamsPerUser|^maxConnections)$/.test(option))
    return Number(value);
  return value;
}

const withoutUndefined = (options: ServeOptions): ServeOptions =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as ServeOptions;

const configNames = ['signalbox.config.json', 'signalbox.config.ts', 'signalbox.config.js', 'signalbox.config.mjs'];

function findConfig(cwd: string): string | undefined {
  return configNames.map((name) => join(cwd, name)).find((path) => existsSync(path));
}

async function readConfig(path: string): Promise<unknown> {
  if (!existsSync(path)) throw new HubError('invalid-argument', `no such config file: ${path}`);
  try {
    if (path.endsWith('.json')) return JSON.parse(readFileSync(path, 'utf8'));
    const module = (await import(pathToFileURL(path).href)) as { default?: unknown };
    if (module.default === undefined) throw new Error('it has no default export');
    return module.default;
  } catch (error) {
    throw new HubError('invalid-argument', `cannot read ${basename(path)}: ${toHubError(error).message}`, {
      cause: error,
    });
  }
}

const pathOptions = ['data', 'authSecretFile', 'tlsCert', 'tlsKey', 'tlsCa', 'clusterSecretFile', 'clusterCa'] as const;

/** Paths in a config file are meant from where the file is. */
function relativeTo(folder: string, options: CheckedOptions): ServeOptions {
  const absolute = { ...options } as Record<string, unknown>;
  for (const name of pathOptions) {
    const path = options[name];
    if (path !== undefined && path !== ':memory:' && !isAbsolute(path)) absolute[name] = join(folder, path);
  }
  if (options.tasks) absolute.tasks = options.tasks.map((path) => (isAbsolute(path) ? path : join(folder, path)));
  return absolute as ServeOptions;
}
