// `npm run bench [-- name ...] [--json] [--quick] [--profile folder]`: measures, each thing beside its
// yardsticks. With a folder, every process leaves a CPU profile there (for Chrome's developer tools, or speedscope).
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { cluster } from './cluster.ts';
import { commands } from './commands.ts';
import { figuresOf } from './figures.ts';
import { type Bench, type Figure, Stage } from './harness.ts';
import { ideas } from './ideas.ts';
import { idle } from './idle.ts';
import { queued } from './queued.ts';
import { resume } from './resume.ts';
import { rpc } from './rpc.ts';
import { simulateCluster } from './simulate-cluster.ts';
import { sse } from './sse.ts';
import { table } from './table.ts';
import { tasks } from './tasks.ts';

const benches: Record<string, (bench: Bench) => Promise<void>> = {
  commands,
  rpc,
  queued,
  sse,
  idle,
  resume,
  cluster,
  'simulate-cluster': simulateCluster,
  ideas,
  tasks,
};

const { values: flags, positionals } = given();
const onlyWhenNamed = ['simulate-cluster', 'ideas'];
const names =
  positionals.length > 0 ? positionals : Object.keys(benches).filter((name) => !onlyWhenNamed.includes(name));
for (const name of names)
  if (!Object.hasOwn(benches, name)) stop(`unknown bench "${name}"; there are: ${Object.keys(benches).join(', ')}`);

const say = (text: string): void => void process.stderr.write(`${text}\n`);
const hasPeers = installPeers();
say(environment());
let failed = false;
for (const name of names) {
  const begun = performance.now();
  say(`\n${name} ...`);
  const figures: Figure[] = [];
  const stage = new Stage(profiling(name));
  try {
    await benches[name]!({
      isQuick: flags.quick,
      hasPeers,
      say,
      start: (actor) => stage.start(actor),
      stopAll: () => stage[Symbol.asyncDispose](),
      report: (...figure) => void figures.push(...figuresOf(name, ...figure)),
    });
  } catch (error) {
    failed = true;
    say(`${name} failed: ${error instanceof Error ? error.stack : error}`);
  } finally {
    await stage[Symbol.asyncDispose]();
  }
  if (flags.json) for (const figure of figures) console.log(JSON.stringify(figure));
  else console.log(table(figures));
  say(`${name}: ${Math.round((performance.now() - begun) / 1000)} s`);
}
process.exitCode = failed ? 1 : 0;

function given() {
  try {
    return parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        quick: { type: 'boolean', default: false },
        profile: { type: 'string' },
      },
      allowPositionals: true,
    });
  } catch (error) {
    return stop(error instanceof Error ? error.message : String(error));
  }
}

/** Puts the peers into bench/node_modules if they are not there. False: they cannot be had, and are left out. */
function installPeers(): boolean {
  const folder = import.meta.dirname;
  const wanted = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8')).dependencies as Record<
    string,
    string
  >;
  const isThere = Object.entries(wanted).every(
    ([name, version]) => versionOf(path.join(folder, 'node_modules'), name) === version,
  );
  if (isThere) return true;
  say('Installing the peers of bench/package.json ...');
  // Not `npm ci`: that refuses a lock file without the optional binaries that not every registry has.
  const flags = ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'];
  const { status } = spawnSync('npm', flags, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) say('skipped: socket.io, better-sse and NATS, npm could not install them');
  return status === 0;
}

/** Node's arguments for each process; `%` stands for its name. */
function profiling(bench: string): string[] {
  if (flags.profile === undefined) return [];
  return ['--cpu-prof', `--cpu-prof-dir=${path.resolve(flags.profile)}`, `--cpu-prof-name=${bench}-%.cpuprofile`];
}

/** The machine and what runs on it, without its name. */
function environment(): string {
  const root = path.join(import.meta.dirname, '..', 'node_modules');
  const peers = path.join(import.meta.dirname, 'node_modules');
  const versions = [
    `Node ${process.versions.node}`,
    ...['@grpc/grpc-js', 'nice-grpc', 'better-sqlite3', 'fastify'].map((name) => `${name} ${versionOf(root, name)}`),
    ...(hasPeers ? ['socket.io', 'better-sse'].map((name) => `${name} ${versionOf(peers, name)}`) : []),
  ];
  const model = cpus()[0]?.model.replace(/\s+/g, ' ') ?? 'unknown';
  return [
    `${new Date().toISOString().slice(0, 10)}, ${process.platform} ${process.arch}, ${cpus().length} x ${model}, ` +
      `${Math.round(totalmem() / 2 ** 30)} GiB, commit ${commit()}`,
    versions.join(', '),
    `Contenders take turns in one run; figures are medians of the turns, the first of which warms up. CPU is that of the ` +
      'named process alone (user + system, all threads); loads come from other processes.',
  ].join('\n');
}

function versionOf(folder: string, name: string): string | undefined {
  const file = path.join(folder, name, 'package.json');
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version : undefined;
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return 'unknown';
  }
}

function stop(text: string): never {
  process.stderr.write(`bench: ${text}\n`);
  process.exit(2);
}
