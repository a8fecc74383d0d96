import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { verbs } from '../../src/cli/verbs/index.ts';
import { httpStatus } from '../../src/gateway/problem.ts';
import { optionNames, resolveOptions, serve, variableOf } from '../../src/server/index.ts';
import { serverMetrics } from '../../src/server/metrics.ts';
import { Program } from '../support/program.ts';
import { root } from '../support/sources.ts';
import { type Block, blocks, pages, textOf } from './docs.ts';
import { emptyFolder } from './run.ts';

const code = blocks.filter(({ language }) => language === 'ts');

/** A folder as a user has it: the package is installed, and what a block says is a file. */
function project(files: readonly Block[]): { folder: string; names: string[] } {
  const folder = emptyFolder();
  mkdirSync(path.join(folder, 'node_modules/@types'), { recursive: true });
  symlinkSync(path.join(root, 'examples'), path.join(folder, 'node_modules/signalbox'), 'dir');
  symlinkSync(path.join(root, 'node_modules/@types/node'), path.join(folder, 'node_modules/@types/node'), 'dir');
  // What the docs use beside the package, as a user would install it.
  for (const name of ['zod', 'fastify'])
    symlinkSync(path.join(root, 'node_modules', name), path.join(folder, 'node_modules', name), 'dir');
  writeFileSync(path.join(folder, 'package.json'), '{ "type": "module" }');
  const names = files.map(({ where, text }) => {
    const name = `${where.replaceAll(/[^A-Za-z0-9]+/g, '-')}.ts`;
    writeFileSync(path.join(folder, name), `${text}\nexport {};\n`);
    return name;
  });
  return { folder, names };
}

test('every TypeScript block of README and docs type-checks as it stands', () => {
  const { folder, names } = project(code);
  const config = {
    extends: path.join(root, 'tsconfig.json'),
    compilerOptions: {
      lib: ['ES2024', 'ESNext.Disposable', 'DOM', 'DOM.Iterable'],
      typeRoots: ['node_modules/@types'],
    },
    include: [],
    files: names,
    exclude: [],
  };
  writeFileSync(path.join(folder, 'tsconfig.json'), JSON.stringify(config));
  const { stdout, stderr } = spawnSync(path.join(root, 'node_modules/.bin/tsc'), ['-p', folder], { encoding: 'utf8' });
  const complaints = `${stdout}${stderr}`.split('\n').filter((line) => /\berror\b/.test(line));
  // Of other files their own tests tell.
  expect(complaints.filter((line) => names.some((name) => line.includes(name)) || !line.includes('src/'))).toEqual([]);
  expect(code.length).toBeGreaterThan(10);
});

const runnable = code.filter(({ mark }) => mark === 'run' || mark?.startsWith('file: '));
test.each(runnable)('the program at $where runs as it stands', async (block) => {
  const { folder, names } = project([block]);
  const env = { NODE_OPTIONS: '', SIGNALBOX_ADDRESS: '', SIGNALBOX_TOKEN: '' };
  const program = new Program(process.execPath, [names[0]!], { cwd: folder, env });
  expect(await program.ended(), `${program.stdout}${program.stderr}`).toBe(0);
  // A comment behind a line that prints says what it prints.
  for (const [, printed] of block.text.matchAll(/console\.log\(.*\); \/\/ (.+)$/gm))
    expect(program.stdout).toContain(printed);
});

test('the program of the README is the example that the tests run', () => {
  for (const { mark, text } of blocks) {
    if (!mark?.startsWith('file: ')) continue;
    expect(`${text}\n`).toBe(textOf(mark.slice('file: '.length)));
  }
  expect(runnable.some(({ where }) => where.startsWith('README.md'))).toBe(true);
});

test('JSON blocks are JSON, and the config file is one', () => {
  for (const { where, language, mark, text } of blocks) {
    if (language !== 'json') continue;
    const value = JSON.parse(text) as object;
    if (mark === 'config') expect(() => resolveOptions(value, where)).not.toThrow();
  }
});

test('links lead to files that are there', () => {
  const broken = pages.flatMap((page) =>
    [...textOf(page).matchAll(/\]\((?!https?:|#)([^)#]+)/g)]
      .map(([, target]) => path.join(path.dirname(page), target!))
      .filter((target) => !existsSync(path.join(root, target)))
      .map((target) => `${page}: ${target}`),
  );
  expect(broken).toEqual([]);
});

/** The `signalbox ...` command lines of a page, without comments. */
function commandLines(): { where: string; words: string[] }[] {
  return blocks
    .filter(({ language }) => language === 'sh' || language === 'ini')
    .flatMap(({ where, text }) =>
      text
        .replaceAll('\\\n', ' ')
        .split('\n')
        .flatMap(
          (line) =>
            /(?:^|\bsignalbox -- )\s*(?:npx (?:--no-install )?)?(?:signalbox(?: --)? |ExecStart=\S+ \S+main\.js )(.*)$/.exec(
              line,
            ) ?? [],
        )
        .filter((_, index) => index % 2 === 1)
        .map((rest) => ({ where, words: rest.replace(/\s#.*$/, '').match(/'[^']*'|"[^"]*"|\S+/g) ?? [] })),
    );
}

test('command lines name verbs and options that there are', () => {
  const commands = new Map(verbs.map((verb) => verb.declare()).map((command) => [command.name(), command]));
  const wrong: string[] = [];
  for (const { where, words } of commandLines()) {
    const command = commands.get(words[0]!);
    if (command === undefined) {
      wrong.push(`${where}: no verb ${words[0]}`);
      continue;
    }
    const known = new Set(['--json', '--help', ...command.options.flatMap(({ long, short }) => [long, short])]);
    for (const word of words) {
      const option = /^--?[a-z][a-z-]*/.exec(word)?.[0];
      if (option !== undefined && !known.has(option)) wrong.push(`${where}: ${words[0]} has no ${option}`);
    }
  }
  expect(wrong).toEqual([]);
  expect(commandLines().length).toBeGreaterThan(10);
});

test('docs/cli.md tells of every verb, and of none that is not there', () => {
  const told = [...textOf('docs/cli.md').matchAll(/^## `(\w+)`/gm)].map(([, verb]) => verb!);
  expect(told.sort()).toEqual(verbs.map((verb) => verb.declare().name()).sort());
});

test('docs/http-api.md tells of every route, and of none that is not there', async () => {
  await using server = await serve({ grpc: false, http: '127.0.0.1:0', data: ':memory:', logLevel: 'silent' });
  const answer = await fetch(`${server.http[0]}/openapi.json`);
  const { paths } = (await answer.json()) as { paths: Record<string, object> };
  const there = Object.entries(paths)
    .filter(([url]) => url !== '/' && !url.startsWith('/browser') && !url.startsWith('/docs'))
    .flatMap(([url, methods]) =>
      Object.keys(methods)
        .filter((method) => method !== 'head')
        .map((method) => `${method.toUpperCase()} ${url}`),
    );
  const told = [...textOf('docs/http-api.md').matchAll(/`((?:GET|POST) \/[^`]*)`/g)]
    .map(([, route]) => route!)
    .filter((route) => route !== 'GET /' && route !== 'GET /docs');
  expect([...new Set(told)].sort()).toEqual(there.sort());
});

test('curl lines ask for routes that there are', () => {
  const routes = [...textOf('docs/http-api.md').matchAll(/`(?:GET|POST) (\/[^`]*)`/g)].map(
    ([, route]) => new RegExp(`^${route!.replaceAll(/\{\w+\}/g, '[^/?]+')}(\\?|$)`),
  );
  const asked = blocks
    .filter(({ language }) => language === 'sh')
    .flatMap(({ text }) => [...text.matchAll(/http:\/\/127\.0\.0\.1:8080(\/[^\s']*)/g)].map(([, url]) => url!));
  expect(asked.length).toBeGreaterThan(2);
  expect(asked.filter((url) => !routes.some((route) => route.test(url)))).toEqual([]);
});

test('docs/commands.md and docs/http-api.md tell of every error code, with its status', () => {
  const [commands, http] = [textOf('docs/commands.md'), textOf('docs/http-api.md')];
  const rows = [...http.matchAll(/^\| (\d{3}) \| (.+) \|$/gm)];
  for (const [errorCode, status] of Object.entries(httpStatus)) {
    expect(commands).toContain(`\`${errorCode}\``);
    const row = rows.find(([, number]) => Number(number) === status);
    expect(row?.[2], `${errorCode} is ${status}`).toContain(`\`${errorCode}\``);
  }
});

test('docs/operations.md tells of every metric, and of none that is not there', async () => {
  const metrics = serverMetrics({ mailboxDepth: () => 0, outboxBytes: () => 0, watchers: () => 0 });
  const there = [...(await metrics.render()).matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!);
  metrics.close();
  const told = new Set(
    [...textOf('docs/operations.md').matchAll(/`((?:signalbox|process)_\w+)/g)].map(([, name]) => name!),
  );
  expect([...told].filter((name) => !there.includes(name))).toEqual([]);
  // What counts facts without a metric is for us.
  expect(there.filter((name) => !told.has(name) && name !== 'signalbox_other_facts_total')).toEqual([]);
});

test('options that the docs name in code style with an Ms or Bytes ending exist', () => {
  const known = new Set<string>(optionNames);
  const told = [...textOf('docs/deploy.md').matchAll(/`(\w+(?:Ms|Bytes|Commands))`/g)].map(([, name]) => name!);
  expect(told.length).toBeGreaterThan(5);
  expect(told.filter((name) => !known.has(name))).toEqual([]);
});

/** What docs/deploy.md gives people to copy, by the word after the fence: `ini`, `dockerfile`, `yaml`, `nginx`. */
const deployed = blocks.filter(
  ({ where, language }) => where.startsWith('docs/deploy.md') && /^(ini|dockerfile|yaml|nginx)$/.test(language),
);
const said = (pattern: RegExp): string[] =>
  deployed.flatMap(({ text }) => [...text.matchAll(pattern)].map(([, found]) => found!));

test('what is deployed sets variables that there are, with values that are taken', () => {
  const known = new Map(optionNames.map((option) => [variableOf(option), option]));
  const set = deployed.flatMap(({ text }) => [...text.matchAll(/\b(SIGNALBOX_\w+)(?:=|: |, value: "?)([^\s"]+)/g)]);
  expect(set.length).toBeGreaterThan(8);
  for (const [, variable, value] of set) {
    expect([...known.keys()]).toContain(variable);
    expect(() => resolveOptions({ [known.get(variable!)!]: value!.replace('$(POD)', 'hub-0') })).not.toThrow();
  }
});

test('what is deployed starts the program that the package brings', () => {
  const { bin } = JSON.parse(textOf('package.json')) as { bin: { signalbox: string } };
  const started = said(/(\S*signalbox\/dist\/\S+\.js)/g).map((file) => file.replaceAll(/[",]/g, ''));
  expect(started).toHaveLength(2);
  for (const file of started) expect(file).toBe(`node_modules/signalbox/${bin.signalbox.replace('./', '')}`);
});

test('what is deployed calls by the ports that are there, and waits longer for an end than a drain lasts', () => {
  const { grpc, http, drainTimeoutMs } = resolveOptions();
  const ports = [...grpc, ...http].map((address) => address.split(':').at(-1)!);
  const called = said(/(?:containerPort: |port: |\bport_value: |10\.0\.0\.\d:|-\d+:|EXPOSE |hub:)(\d+)/g);
  expect(called.length).toBeGreaterThan(15);
  // 443 is the proxy's own.
  expect(called.filter((port) => port !== '443' && !ports.includes(port))).toEqual([]);
  const waits = said(/(?:TimeoutStopSec=|stop_grace_period: |terminationGracePeriodSeconds: )(\d+)/g).map(Number);
  expect(waits).toHaveLength(3);
  // Closing the servers after the drain takes 5 s each at most.
  for (const seconds of waits) expect(seconds * 1000).toBeGreaterThan(drainTimeoutMs + 10_000);
});

test('what is deployed asks for health where it is answered', async () => {
  await using server = await serve({ grpc: false, http: '127.0.0.1:0', data: ':memory:', logLevel: 'silent' });
  const asked = said(/(?:path: |:8080)(\/(?:ready|health)\b)/g);
  expect(new Set(asked)).toEqual(new Set(['/ready', '/health']));
  for (const url of asked) expect((await fetch(`${server.http[0]}${url}`)).status).toBe(200);
});
