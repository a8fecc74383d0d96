import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { blocksOf } from '../examples/docs.ts';
import { SseReader } from '../gateway/support.ts';
import { freePort } from '../support/free-port.ts';
import { until } from '../support/redis.ts';

export type ProxyName = 'nginx' | 'envoy';

/** The program on the PATH (Debian has nginx in /usr/sbin); undefined if there is none. */
export function proxyProgram(name: ProxyName): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/sbin'];
  return folders.map((folder) => path.join(folder, name)).find((file) => existsSync(file));
}

/** The configuration that docs/deploy.md gives. */
export function configOf(name: ProxyName): string {
  const block = blocksOf('docs/deploy.md').find(({ mark }) => mark === name);
  if (!block) throw new Error(`docs/deploy.md has no block marked "${name}"`);
  return block.text;
}

export interface Upstream {
  readonly grpc: string;
  readonly http: string;
}

/** A proxy with the text of the docs, in front of nodes of ours: addresses and paths are all that is replaced. */
export class FrontProxy {
  readonly port: number;
  readonly ca: Buffer;
  readonly #folder: string;
  readonly #child: ChildProcess;
  #said = '';

  private constructor(port: number, ca: Buffer, folder: string, child: ChildProcess) {
    this.port = port;
    this.ca = ca;
    this.#folder = folder;
    this.#child = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (text: Buffer) => {
        this.#said += String(text);
      });
  }

  /** Resolves once it takes connections; throws with what it said when it does not. */
  static async start(name: ProxyName, upstreams: readonly Upstream[], text = configOf(name)): Promise<FrontProxy> {
    const folder = mkdtempSync(path.join(tmpdir(), `signalbox-${name}-`));
    const [cert, key] = [path.join(folder, 'hub.pem'), path.join(folder, 'hub.key')];
    const ask = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -nodes -subj /CN=hub.example.com'.split(' ');
    const names = ['-addext', 'subjectAltName=DNS:hub.example.com'];
    execFileSync('openssl', ['req', '-x509', ...ask, ...names, '-keyout', key, '-out', cert], { stdio: 'ignore' });
    const port = await freePort();
    let config = text.replaceAll(`/etc/${name}/hub.pem`, cert).replaceAll(`/etc/${name}/hub.key`, key);
    for (const [i, { grpc, http }] of upstreams.entries()) {
      config = replaced(config, name, `10.0.0.${i + 1}`, 50051, grpc);
      config = replaced(config, name, `10.0.0.${i + 1}`, 8080, http);
    }
    if (/10\.0\.0\.\d/.test(config)) throw new Error(`${name} would look for nodes that are not there:\n${config}`);
    const args = name === 'nginx' ? nginx(folder, config, port) : envoy(folder, config, port);
    const child = spawn(proxyProgram(name)!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const proxy = new FrontProxy(port, readFileSync(cert), folder, child);
    try {
      await until(async () => {
        if (child.exitCode !== null) throw new Error(`${name} ended:\n${proxy.#said}`);
        return takesConnections(port);
      });
      return proxy;
    } catch (error) {
      await proxy.close();
      throw error;
    }
  }

  /** For devices and callers. */
  get grpc() {
    return { address: `127.0.0.1:${this.port}`, tls: { ca: this.ca, serverName: 'hub.example.com' } };
  }

  /** A request as browsers make it, over HTTP/2. The answer is there with its head; leaving ends its stream alone. */
  async fetch(
    url: string,
    { method = 'GET', headers = {}, body }: { method?: string; headers?: Record<string, string>; body?: string } = {},
  ): Promise<{ response: Response; leave: () => void }> {
    const session = connectHttp2('https://hub.example.com', {
      createConnection: () =>
        connectTls(this.port, '127.0.0.1', { ca: this.ca, servername: 'hub.example.com', ALPNProtocols: ['h2'] }),
    });
    session.on('error', () => undefined); // the stream says so, too
    // Node would name the port, which browsers leave out.
    const stream = session.request({ ':authority': 'hub.example.com', ':method': method, ':path': url, ...headers });
    stream.once('close', () => session.close());
    stream.end(body);
    const head = await new Promise<Record<string, unknown>>((resolve, reject) => {
      stream.once('response', resolve);
      stream.once('error', reject);
    });
    stream.on('error', () => undefined);
    const given = Object.entries(head).filter(([name]) => !name.startsWith(':'));
    return {
      response: new Response(Readable.toWeb(stream) as ReadableStream, {
        status: Number(head[':status']),
        headers: given.map(([name, value]): [string, string] => [name, String(value)]),
      }),
      leave: () => stream.close(8),
    };
  }

  async watch(url: string, headers: Record<string, string>): Promise<SseReader> {
    const { response, leave } = await this.fetch(url, { headers });
    const leaving = new AbortController();
    leaving.signal.addEventListener('abort', leave);
    return new SseReader(response, leaving);
  }

  async close(): Promise<void> {
    const hasEnded = new Promise((resolve) => this.#child.once('exit', resolve));
    if (this.#child.exitCode === null && this.#child.kill('SIGKILL')) await hasEnded;
    rmSync(this.#folder, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function replaced(config: string, name: ProxyName, host: string, port: number, by: string): string {
  const [, toHost, toPort] = /^(?:http:\/\/)?(.+):(\d+)$/.exec(by)!;
  const written = (h: string, p: string): string =>
    name === 'nginx' ? `${h}:${p}` : `address: ${h}, port_value: ${p}`;
  return config.replaceAll(written(host, String(port)), written(toHost!, toPort!));
}

// One process, so that nothing is left behind when it is killed; files in the folder.
function nginx(folder: string, config: string, port: number): string[] {
  for (const each of ['client', 'proxy', 'fastcgi', 'uwsgi', 'scgi']) mkdirSync(path.join(folder, each));
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((each) => `${each}_temp_path ${folder}/${each.replace('_body', '')};`)
    .join(' ');
  const file = path.join(folder, 'nginx.conf');
  const listen = config.replace('listen 443 ', `listen 127.0.0.1:${port} `);
  writeFileSync(
    file,
    `daemon off; master_process off; pid ${folder}/pid; error_log stderr; events { worker_connections 4096; }
http { access_log off; ${temporary}\n${listen}\n}`,
  );
  return ['-p', folder, '-c', file, '-e', 'stderr'];
}

function envoy(folder: string, config: string, port: number): string[] {
  const file = path.join(folder, 'envoy.yaml');
  const listen = config.replace('address: 0.0.0.0, port_value: 443', `address: 127.0.0.1, port_value: ${port}`);
  writeFileSync(file, listen);
  return ['-c', file, '--concurrency', '1', '--disable-hot-restart', '-l', 'warning'];
}

function takesConnections(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
