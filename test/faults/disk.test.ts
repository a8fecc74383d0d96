import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { grpcTransport } from '../../src/grpc/index.ts';
import type { CommandTransport } from '../../src/protocol/command-transport.ts';
import { submit } from './support/callers.ts';
import { HubProcess } from './support/hub.ts';
import { eventually } from './support/sizes.ts';
import { World } from './support/world.ts';

test('a full disk: nothing is accepted that is not kept, the process lives, and all accepted is done later (P21)', {
  timeout: 120_000,
}, async () => {
  // No file of this process may grow beyond 2 MB.
  const world = await World.open({ mailboxBytes: 1024 * 1024 * 1024 }, 'ulimit -f 4096');
  const { hub } = world;
  const transport = grpcTransport({ address: hub.grpc });
  onTestFinished(() => transport.close());
  const content = 'x'.repeat(20_000);
  const sends: ReturnType<typeof submit>[] = [];
  let refused = 0;
  for (let i = 0; refused < 20 && i < 1000; i++) {
    const one = submit(transport, world.ledger, { clientId: 'away', content: `${i} ${content}` });
    sends.push(one);
    if (!(await one.accepted)) refused++;
  }
  expect(refused).toBe(20);
  const refusals = world.callers.filter((line) => line.kind === 'refused');
  expect(new Set(refusals.map(({ code }) => code))).toEqual(new Set(['unavailable']));
  expect(refusals[0]!.message).toMatch(/store|disk|full/);
  expect(hub.child.hasEnded, 'the hub lives').toBe(false);
  const accepted = sends.length - refused;
  expect(accepted).toBeGreaterThan(5);

  // With room again, by a restart: all that was accepted is there, and is done.
  await hub.child.kill();
  const roomy = new HubProcess({ data: path.join(world.folder, 'data') });
  roomy.grpc = hub.grpc;
  await roomy.start();
  world.devices(['away']);
  await eventually(
    () => `${world.verdict().effects} of ${accepted} are done`,
    () => world.verdict().effects === accepted,
    60_000,
  );
  await eventually('all ends are told', () => world.verdict().broken.length === 0, 30_000);
  expect(world.verdict().states).toEqual({ succeeded: accepted });
});

/** Whether this machine lets a test make a file system of its own, and has a compiler. */
const canMount =
  process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0;
const hasCompiler = spawnSync('cc', ['--version']).status === 0;

/** Sends until `count` were refused; how many were accepted. */
async function fill(world: World, transport: CommandTransport, count: number): Promise<number> {
  const content = 'x'.repeat(20_000);
  let [accepted, refused] = [0, 0];
  for (let i = 0; refused < count && i < 2000; i++)
    if (await submit(transport, world.ledger, { clientId: 'away', content: `${i} ${content}` }).accepted) accepted++;
    else refused++;
  expect(refused).toBe(count);
  const refusals = world.callers.filter((line) => line.kind === 'refused');
  expect(new Set(refusals.map(({ code }) => code))).toEqual(new Set(['unavailable']));
  return accepted;
}

test.skipIf(!canMount)(
  'a file system without room: refused until there is some, then accepted again without a restart (P21; needs root)',
  {
    timeout: 120_000,
  },
  async () => {
    const disk = mkdtempSync(path.join(tmpdir(), 'signalbox-disk-'));
    expect(spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'none', disk]).status).toBe(0);
    onTestFinished(() => {
      spawnSync('umount', ['-l', disk]);
      rmSync(disk, { recursive: true, force: true });
    });
    // Less than SQLite's write-ahead log takes beside the data would be full again at once.
    const ballast = path.join(disk, 'ballast');
    writeFileSync(ballast, Buffer.alloc(24 * 2 ** 20));
    const world = await World.open({ data: path.join(disk, 'data'), mailboxBytes: 1024 * 1024 * 1024 });
    const transport = grpcTransport({ address: world.hub.grpc });
    onTestFinished(() => transport.close());
    let accepted = await fill(world, transport, 10);
    expect(accepted).toBeGreaterThan(5);
    rmSync(ballast);
    await eventually(
      'there is room, and it is accepted again',
      () => submit(transport, world.ledger, { clientId: 'away', content: 'after' }).accepted,
    );
    accepted++;
    world.devices(['away']);
    await eventually(
      () => `${world.verdict().effects} of ${accepted} are done`,
      () => world.verdict().effects === accepted,
    );
    await eventually(
      () => `all ends are told: ${world.verdict().broken.slice(0, 3)} ${JSON.stringify(world.verdict().states)}`,
      () => world.verdict().broken.length === 0,
      30_000,
    );
  },
);

test.skipIf(!hasCompiler)(
  'an fsync that fails: nothing more is accepted until a restart, and all that was is done (P21; needs cc)',
  {
    timeout: 120_000,
  },
  async () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'signalbox-fsync-'));
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
    const [source, library, broken] = ['fsync.c', 'fsync.so', 'broken'].map((name) => path.join(folder, name)) as [
      string,
      string,
      string,
    ];
    // Once the file `broken` is there, no fsync succeeds any more.
    writeFileSync(
      source,
      `#include <errno.h>
     #include <unistd.h>
     #include <sys/syscall.h>
     static int failing(void) { if (access("${broken}", F_OK) != 0) return 0; errno = EIO; return 1; }
     int fsync(int fd) { return failing() ? -1 : syscall(SYS_fsync, fd); }
     int fdatasync(int fd) { return failing() ? -1 : syscall(SYS_fdatasync, fd); }`,
    );
    expect(spawnSync('cc', ['-shared', '-fPIC', '-o', library, source]).status).toBe(0);
    const world = await World.open({}, `export LD_PRELOAD=${library}`);
    const { hub } = world;
    const transport = grpcTransport({ address: hub.grpc });
    onTestFinished(() => transport.close());
    const sends = Array.from({ length: 50 }, (_, i) =>
      submit(transport, world.ledger, { clientId: 'away', content: `${i}` }),
    );
    for (const { accepted } of sends) expect(await accepted).toBe(true);
    writeFileSync(broken, '');
    expect(await fill(world, transport, 5)).toBe(0);
    rmSync(broken);
    // The disk seems well again; what it did with what it was given before, nobody knows.
    expect(await fill(world, transport, 5)).toBe(0);
    const refusal = world.callers.filter((line) => line.kind === 'refused').at(-1)!;
    expect(refusal.message).toMatch(/disk I\/O error.*Nothing is accepted until a restart/);
    expect(hub.child.hasEnded, 'the hub lives').toBe(false);

    await hub.child.kill();
    await hub.start();
    world.devices(['away']);
    await eventually(
      () => `${world.verdict().effects} of 50 are done`,
      // Of those that it failed to keep, some may be kept all the same: nobody was promised anything.
      () => world.verdict().effects >= 50,
    );
    await eventually('all ends are told', () => world.verdict().broken.length === 0, 30_000);
  },
);

/** A disk of its own in a file, which goes read-only at its first fault, as those of most servers do. */
class TestDisk {
  readonly folder = mkdtempSync(path.join(tmpdir(), 'signalbox-ext4-'));
  readonly mountPoint = path.join(this.folder, 'disk');
  readonly #image = path.join(this.folder, 'image');

  /** Undefined where this machine does not let a test mount one. */
  static make(): TestDisk | undefined {
    const disk = new TestDisk();
    mkdirSync(disk.mountPoint);
    writeFileSync(disk.#image, Buffer.alloc(32 * 2 ** 20));
    const isThere = disk.#run('mkfs.ext4', '-q', disk.#image) && disk.mount() && existsSync(disk.#fault);
    if (isThere) return disk;
    disk.remove();
    return undefined;
  }

  mount(): boolean {
    return this.#run('mount', '-o', 'loop,errors=remount-ro', this.#image, this.mountPoint);
  }

  /** From now on it can only be read, also by whoever has files of it open. */
  goReadOnly(): void {
    writeFileSync(this.#fault, '1');
  }

  /** What an administrator does; nobody may have files of it open. */
  repair(): void {
    expect(this.#run('umount', this.mountPoint)).toBe(true);
    this.#run('e2fsck', '-fy', this.#image); // says by its exit code that there was something to mend
    expect(this.mount()).toBe(true);
  }

  remove(): void {
    this.#run('umount', '-l', this.mountPoint);
    rmSync(this.folder, { recursive: true, force: true });
  }

  get #fault(): string {
    const device = spawnSync('findmnt', ['-no', 'SOURCE', this.mountPoint], { encoding: 'utf8' }).stdout;
    return `/sys/fs/ext4/${path.basename((device ?? '').trim())}/trigger_fs_error`;
  }

  #run(program: string, ...args: string[]): boolean {
    return spawnSync(program, args, { stdio: 'ignore' }).status === 0;
  }
}

test('a disk that goes read-only: nothing more is accepted, nor does a hub start there; mended, all that was accepted is done (P21; needs root and loop devices)', async ({
  skip,
}) => {
  const disk = process.getuid?.() === 0 ? TestDisk.make() : undefined;
  if (!disk) return skip('this machine lets no test mount a disk of its own');
  onTestFinished(() => disk.remove());
  const world = await World.open({ data: path.join(disk.mountPoint, 'data') });
  const { hub } = world;
  const transport = grpcTransport({ address: hub.grpc });
  onTestFinished(() => transport.close());
  const sends = Array.from({ length: 50 }, (_, i) =>
    submit(transport, world.ledger, { clientId: 'away', content: `${i}` }),
  );
  for (const { accepted } of sends) expect(await accepted).toBe(true);
  disk.goReadOnly();
  expect(await fill(world, transport, 10)).toBe(0);
  const refusal = world.callers.filter((line) => line.kind === 'refused').at(-1)!;
  expect(refusal.message).toMatch(/Nothing is accepted until a restart: check the disk/);
  expect(hub.child.hasEnded, 'the hub lives').toBe(false);

  await hub.child.kill();
  await expect(hub.start()).rejects.toThrow(/its file system is read-only.*mount it writable, then start again/);
  disk.repair();
  await hub.start();
  world.devices(['away']);
  await eventually(
    () => `${world.verdict().effects} of 50 are done`,
    () => world.verdict().effects === 50,
  );
  await eventually('all ends are told', () => world.verdict().broken.length === 0, 30_000);
  expect(world.verdict().states).toEqual({ succeeded: 50 });
});

test('a data file that is damaged is refused with a reason, not with a crash later (P21)', async () => {
  const world = await World.open();
  const { hub } = world;
  hub.child.signal('SIGTERM');
  expect(await hub.child.ended).toBe(0);
  writeFileSync(path.join(world.folder, 'data', 'signalbox.db'), Buffer.alloc(8192, 'garbage'));
  await expect(hub.start()).rejects.toThrow(/signalbox\.db is not a database: move it away/);
});
