// What some tests need that npm cannot bring. Where it may (root on Debian), `npm test` installs it.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';

export interface DebianTool {
  readonly package: string;
  readonly why: string;
  readonly isThere: () => boolean;
}

/** The Python that Debian's packages belong to; a `python3` found first on PATH may be another one. */
export const debianPython = '/usr/bin/python3';

export const debianTools = {
  chromium: {
    package: 'chromium',
    why: 'the page is tested in a real browser',
    isThere: () => chromiumPath() !== undefined,
  },
  redis: {
    package: 'redis-server',
    why: 'what several nodes share is tested on a real Redis',
    isThere: () => redisServerPath() !== undefined,
  },
  pythonGrpc: {
    package: 'python3-grpcio',
    why: 'devices and callers in Python are tested',
    isThere: () => spawnSync(debianPython, ['-c', 'import grpc, google.protobuf'], { stdio: 'ignore' }).status === 0,
  },
} satisfies Record<string, DebianTool>;

/** The browser that tests drive: `SIGNALBOX_CHROMIUM`, else where Debian puts it; undefined if there is none. */
export function chromiumPath(): string | undefined {
  const places = [process.env.SIGNALBOX_CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser'];
  return places.find((place) => place !== undefined && existsSync(place));
}

/** The server that tests start: `SIGNALBOX_REDIS_SERVER`, else the first on PATH; undefined if there is none. */
export function redisServerPath(): string | undefined {
  const onPath = (process.env.PATH ?? '').split(path.delimiter).map((folder) => path.join(folder, 'redis-server'));
  const places = [process.env.SIGNALBOX_REDIS_SERVER, ...onPath, '/usr/bin/redis-server'];
  return places.find((place) => place !== undefined && existsSync(place));
}

/** Installs what is missing, if this is root with apt-get; says what it does, and gives up after ten minutes. */
export async function installMissing(): Promise<void> {
  const missing = Object.values(debianTools).filter((tool) => !tool.isThere());
  if (missing.length === 0) return;
  const names = missing.map((tool) => tool.package);
  const mayInstall = process.getuid?.() === 0 && existsSync('/usr/bin/apt-get');
  if (!mayInstall || process.env.SIGNALBOX_SKIP_INSTALL) {
    console.log(`Not installed: ${names.join(', ')}. Their tests are skipped (failed with CI=true).`);
    return;
  }
  console.log(`Installing from Debian: ${missing.map((tool) => `${tool.package} (${tool.why})`).join(', ')} ...`);
  const options = ['-y', '-q', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=120'];
  const done = aptGet(['update', '-q']) && aptGet(['install', ...options, ...names]);
  const still = missing.filter((tool) => !tool.isThere()).map((tool) => tool.package);
  if (!done || still.length > 0)
    console.log(`Could not be installed: ${still.join(', ')}. Their tests are skipped (failed with CI=true).`);
}

function aptGet(args: readonly string[]): boolean {
  const result = spawnSync('apt-get', args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 5 * 60_000,
    maxBuffer: 64 * 1024 * 1024,
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (result.status !== 0) {
    console.log(`apt-get ${args[0]} failed${result.error ? `: ${result.error.message}` : ''}`);
    console.log(String(result.stdout).split('\n').slice(-15).join('\n'));
  }
  return result.status === 0;
}
