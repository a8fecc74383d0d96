// Runs one of the repository's tasks: `node scripts/run.mjs <task> [args]`.
//
// Plain JavaScript without dependencies, so that the Node that happens to be there (18 or newer) can start it: it
// first makes node_modules match package-lock.json, then goes on with the Node that the repository pins.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));

/** What each task runs, under the pinned Node. */
const tasks = {
  start: ['examples/start.ts'],
  demo: ['examples/demo.ts'],
  signalbox: ['src/cli/main.ts'],
  test: ['scripts/test.ts'],
  'test:faults': ['scripts/faults.ts'],
  'test:mutants': ['scripts/mutants.ts'],
  bench: ['bench/main.ts'],
  build: ['scripts/build.ts'],
  generate: ['scripts/generate.ts'],
  format: ['scripts/format.ts'],
};

const [task = '', ...args] = process.argv.slice(2);
if (!Object.hasOwn(tasks, task)) stop(`unknown task "${task}"; there are: ${Object.keys(tasks).join(', ')}`);
const script = path.join(root, tasks[task][0]);
await install();
const node = pinnedNode();
if (!existsSync(script)) stop(`${tasks[task][0]} is missing`);
const bin = path.join(root, 'node_modules', '.bin');
process.env.PATH = `${bin}${path.delimiter}${process.env.PATH ?? ''}`;
// Who types `npm run signalbox` means files beside the shell, not beside package.json.
if (task === 'signalbox' && process.env.INIT_CWD && existsSync(process.env.INIT_CWD))
  process.chdir(process.env.INIT_CWD);
become(node, [script, ...args]);

/** Installs what package-lock.json asks for, if that is not what is there. */
async function install() {
  if (process.env.SIGNALBOX_SKIP_INSTALL || isInstalled()) return;
  const release = await installLock();
  try {
    if (isInstalled()) return; // another task was quicker
    const since = Date.now();
    say('Installing dependencies with npm (once, about a minute) ...');
    const code = await npmInstall();
    if (code !== 0)
      stop(
        `npm install ended with code ${code}; what it said is above. It needs the npm registry: look at your network and at ` +
          '`npm config get registry`, then try again.',
      );
    if (!isInstalled()) stop('npm install ended well, but node_modules still does not match package-lock.json');
    say(`Installed in ${Math.round((Date.now() - since) / 1000)} s.`);
  } finally {
    release();
  }
}

/** Whether each package of package-lock.json is in node_modules in that version (npm keeps its own list there). */
function isInstalled() {
  const hidden = path.join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(hidden)) return false;
  const wanted = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')).packages;
  let present;
  try {
    present = JSON.parse(readFileSync(hidden, 'utf8')).packages;
  } catch {
    return false; // half written: npm was interrupted
  }
  return Object.entries(wanted).every(([where, { version, optional, devOptional, peer }]) => {
    if (where === '') return true;
    const there = present[where];
    if (there === undefined) return Boolean(optional || devOptional || peer);
    return there.version === version;
  });
}

/**
 * Installs the versions of package-lock.json and leaves that file as it is. Not `npm ci`: that refuses a lock file
 * without the binaries of other platforms, which are optional and which not every registry has.
 */
function npmInstall() {
  const flags = [
    'install',
    '--no-save',
    '--include=dev',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    '--progress=false',
  ];
  const child = spawn(process.platform === 'win32' ? 'npm.cmd' : 'npm', flags, {
    cwd: root,
    // npm's report belongs to people; stdout is the task's.
    stdio: ['ignore', 'pipe', 'inherit'],
    shell: process.platform === 'win32',
    env: { ...process.env, npm_config_engine_strict: 'false' },
  });
  child.stdout.pipe(process.stderr, { end: false });
  const since = Date.now();
  const ticker = setInterval(() => say(`  still installing, ${Math.round((Date.now() - since) / 1000)} s ...`), 10_000);
  return new Promise((resolve) => {
    child.once('error', (error) => {
      clearInterval(ticker);
      stop(`npm cannot be run: ${error.message}. Node.js 20 or newer with npm is needed: https://nodejs.org`);
    });
    child.once('close', (code, signal) => {
      clearInterval(ticker);
      resolve(code ?? signal);
    });
  });
}

/** One install at a time: two npm installs in one folder spoil each other. Returns the release. */
async function installLock() {
  const lock = path.join(root, '.cache', 'installing');
  mkdirSync(path.dirname(lock), { recursive: true });
  for (let told = false; ; ) {
    try {
      writeFileSync(lock, String(process.pid), { flag: 'wx' });
      const release = () => rmSync(lock, { force: true });
      process.once('exit', release);
      return release;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!isAlive(lock)) {
      rmSync(lock, { force: true });
      continue;
    }
    if (!told) say('Waiting for another task that is installing dependencies ...');
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

function isAlive(lock) {
  try {
    process.kill(Number(readFileSync(lock, 'utf8')) || 0, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Path of the Node from the npm package `node`; this very Node where that one is not there but this is new enough. */
function pinnedNode() {
  const name = process.platform === 'win32' ? 'node.exe' : 'node';
  const pinned = path.join(root, 'node_modules', 'node', 'bin', name);
  if (existsSync(pinned)) {
    try {
      execFileSync(pinned, ['--version'], { stdio: 'ignore' });
      return pinned;
    } catch {
      say(`${pinned} cannot be run on this machine.`);
    }
  }
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  // From here on Node runs TypeScript as it is.
  if (major >= 24 || (major === 22 && minor >= 18)) return process.execPath;
  return stop(
    `the pinned Node is not installed, and this one (${process.version}) is too old to run TypeScript.\n` +
      'It is put there by an install script of the package `node`, and npm was told not to run such scripts. Either\n' +
      '  - let npm run that one:  npm rebuild node --ignore-scripts=false\n' +
      '  - or install Node 24:    https://nodejs.org\n' +
      'and try again.',
  );
}

/** Goes on as `file args`: takes its place where this Node can, else waits for it and passes signals on. */
function become(file, args) {
  if (typeof process.execve === 'function' && process.platform !== 'win32') {
    process.execve(file, [file, ...args], process.env);
  }
  const child = spawn(file, args, { stdio: 'inherit' });
  // A Ctrl-C comes here from the terminal (which sends it to the child, too) and again from npm: the child must not
  // take that for three. So a signal from outside is passed on only if the terminal cannot have done it.
  const fromTerminal = Boolean(process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY);
  process.on('SIGINT', () => fromTerminal || child.kill('SIGINT'));
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  process.on('SIGHUP', () => child.kill('SIGHUP'));
  child.once('error', (error) => stop(`${file} cannot be run: ${error.message}`));
  child.once('close', (code, signal) => {
    process.exit(code ?? 128 + (constants.signals[signal] ?? 0));
  });
}

function say(text) {
  process.stderr.write(`${text}\n`);
}

function stop(text) {
  say(`signalbox: ${text}`);
  process.exit(1);
}
