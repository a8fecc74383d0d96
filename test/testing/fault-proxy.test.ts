import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { type FaultProxy, type FaultProxyOptions, faultProxy, seededRandom } from '../../src/testing/index.ts';

const letGo: (() => unknown)[] = [];
afterEach(async () => {
  for (const each of letGo.splice(0).reverse()) await each();
});

interface Echo {
  readonly address: string;
  readonly server: Server;
  readonly sockets: Socket[];
  /** Sizes of what came, as it came. */
  readonly pieces: number[];
}

async function echoServer(): Promise<Echo> {
  const sockets: Socket[] = [];
  const pieces: number[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => {
      pieces.push(bytes.length);
      socket.write(bytes);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  letGo.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, server, sockets, pieces };
}

class Caller {
  readonly socket: Socket;
  #got = '';
  #waiting: (() => void)[] = [];
  closed: Promise<'reset' | 'ended'>;

  constructor(address: string) {
    const [host, port] = address.split(':');
    this.socket = connect(Number(port), host);
    letGo.push(() => this.socket.destroy());
    let isReset = false;
    this.socket.on('error', () => {
      isReset = true;
    });
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve(isReset ? 'reset' : 'ended')));
    this.socket.on('data', (bytes: Buffer) => {
      this.#got += String(bytes);
      for (const wake of this.#waiting.splice(0)) wake();
    });
  }

  get got(): string {
    return this.#got;
  }

  async has(length: number): Promise<string> {
    while (this.#got.length < length) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.#got;
  }
}

async function gone(socket: Socket): Promise<void> {
  while (!socket.closed) await new Promise((resolve) => setImmediate(resolve));
}

async function through(options: Partial<FaultProxyOptions> = {}): Promise<{ proxy: FaultProxy; echo: Echo }> {
  const echo = await echoServer();
  const proxy = await faultProxy({ target: echo.address, random: seededRandom(1), ...options });
  letGo.push(() => proxy.close());
  return { proxy, echo };
}

test('bytes pass unchanged, are counted, and a polite end passes too', async () => {
  const { proxy } = await through();
  const caller = new Caller(proxy.address);
  caller.socket.write('hello');
  expect(await caller.has(5)).toBe('hello');
  expect(proxy.counts).toMatchObject({ accepted: 1, open: 1, up: 5, down: 5, cut: 0 });
  caller.socket.end();
  expect(await caller.closed).toBe('ended');
});

test('a slicer hands bytes on one by one, in order', async () => {
  const { proxy, echo } = await through({ faults: { up: { sliceBytes: 1 } } });
  const caller = new Caller(proxy.address);
  const text = 'abcdefghijklmnopqrstuvwxyz'.repeat(4);
  caller.socket.write(text);
  expect(await caller.has(text.length)).toBe(text);
  expect(echo.pieces.length).toBeGreaterThan(10);
});

test('a connection is reset at both ends after exactly so many bytes', async () => {
  const { proxy, echo } = await through({ faults: { up: { cutAfterBytes: 7 } } });
  const caller = new Caller(proxy.address);
  caller.socket.write('0123456789');
  expect(await caller.closed).toBe('reset');
  expect(proxy.counts).toMatchObject({ up: 7, cut: 1 });
  await gone(echo.sockets[0]!);
  expect(proxy.counts.open).toBe(0);
});

test('with latency and a rate everything still arrives, and later', async () => {
  const { proxy } = await through({ faults: { up: { latencyMs: 50, jitterMs: 20, bytesPerSecond: 10_000 } } });
  const caller = new Caller(proxy.address);
  const since = performance.now();
  const text = 'x'.repeat(3000);
  caller.socket.write(text);
  expect(await caller.has(3000)).toBe(text);
  // 3,000 bytes at 10,000 a second, of which the first tenth of a second goes at once.
  expect(performance.now() - since).toBeGreaterThan(200);
});

test('what is paused waits and is not lost', async () => {
  const { proxy } = await through();
  const caller = new Caller(proxy.address);
  caller.socket.write('a');
  await caller.has(1);
  proxy.pause();
  caller.socket.write('b');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(caller.got).toBe('a');
  proxy.resume();
  expect(await caller.has(2)).toBe('ab');
});

test('a black hole swallows bytes and ends; healing resets what has lost bytes and spares the rest', async () => {
  const { proxy, echo } = await through();
  const talker = new Caller(proxy.address);
  talker.socket.write('a');
  await talker.has(1);
  const silent = new Caller(proxy.address);
  silent.socket.write('s');
  await silent.has(1);
  proxy.blackHole();
  talker.socket.write('lost');
  while (proxy.counts.swallowed < 4) await new Promise((resolve) => setImmediate(resolve));
  expect(echo.pieces).toEqual([1, 1]);
  proxy.heal();
  expect(await talker.closed).toBe('reset');
  silent.socket.write('t');
  expect(await silent.has(2)).toBe('st');
});

test('a target that ends a connection inside a black hole is not heard until that is healed', async () => {
  const { proxy, echo } = await through();
  const caller = new Caller(proxy.address);
  caller.socket.write('a');
  await caller.has(1);
  proxy.blackHole();
  let isClosed = false;
  void caller.closed.then(() => {
    isClosed = true;
  });
  echo.sockets[0]!.destroy();
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(isClosed).toBe(false);
  proxy.heal();
  expect(await caller.closed).toBe('ended');
});

test('half open: the target is gone and the caller does not know', async () => {
  const { proxy, echo } = await through();
  const caller = new Caller(proxy.address);
  caller.socket.write('a');
  await caller.has(1);
  proxy.halfOpen();
  await gone(echo.sockets[0]!);
  expect(caller.socket.destroyed).toBe(false);
  expect(proxy.cutAll()).toBe(1);
  expect(await caller.closed).toBe('reset');
});

test('a blocked proxy resets new connections and keeps the old', async () => {
  const { proxy } = await through();
  const old = new Caller(proxy.address);
  old.socket.write('a');
  await old.has(1);
  proxy.block();
  expect(await new Caller(proxy.address).closed).toBe('reset');
  old.socket.write('b');
  expect(await old.has(2)).toBe('ab');
  proxy.unblock();
  const fresh = new Caller(proxy.address);
  fresh.socket.write('c');
  expect(await fresh.has(1)).toBe('c');
});

test('a target that refuses resets the caller', async () => {
  const { proxy, echo } = await through();
  echo.server.close();
  expect(await new Caller(proxy.address).closed).toBe('reset');
  while (proxy.counts.open > 0) await new Promise((resolve) => setImmediate(resolve));
});

test('a reader that stops is felt by the sender instead of filling the proxy', async () => {
  const { proxy, echo } = await through();
  const caller = new Caller(proxy.address);
  caller.socket.write('a');
  await caller.has(1);
  echo.sockets[0]!.pause();
  const megabyte = Buffer.alloc(1024 * 1024);
  for (let sent = 0; sent < 64; sent++) caller.socket.write(megabyte);
  let before = -1;
  while (proxy.counts.up !== before) {
    before = proxy.counts.up;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  // What the kernel takes for both connections, and no more.
  expect(proxy.counts.up).toBeLessThan(32 * 1024 * 1024);
});

test('the same seed cuts after the same bytes', async () => {
  const cuts = async (): Promise<number[]> => {
    const { proxy } = await through({ faults: { up: { cutAfterBytes: [10, 1000] } }, random: seededRandom(42) });
    const bytes: number[] = [];
    for (let i = 0; i < 3; i++) {
      const before = proxy.counts.up;
      const caller = new Caller(proxy.address);
      caller.socket.write('x'.repeat(2000));
      await caller.closed;
      bytes.push(proxy.counts.up - before);
    }
    return bytes;
  };
  expect(await cuts()).toEqual(await cuts());
});

test('an address that is none is refused by name', async () => {
  await expect(faultProxy({ target: '127.0.0.1:1', listen: 'nowhere' })).rejects.toThrow('"nowhere"');
});
