import type { Socket } from 'node:net';

/**
 * Resets connections all at once, and waits until each peer was back once. `listen` registers a listener with every
 * peer and returns the releases. Gives the seconds after the cut at which half, 99 of 100 and all of them were back.
 */
export async function cutAndWait(
  sockets: Iterable<Socket>,
  listen: (isBack: (peer: object) => void) => (() => void)[],
): Promise<{ half: number; most: number; all: number }> {
  const back = new Map<object, number>();
  const done = Promise.withResolvers<void>();
  const begun = performance.now();
  const releases = listen((peer) => {
    if (!back.has(peer)) back.set(peer, (performance.now() - begun) / 1000);
    if (back.size === releases.length) done.resolve();
  });
  for (const socket of [...sockets]) socket.resetAndDestroy();
  await done.promise;
  for (const release of releases) release();
  const times = [...back.values()].sort((a, b) => a - b);
  const at = (part: number): number => times[Math.ceil(times.length * part) - 1]!;
  return { half: at(0.5), most: at(0.99), all: at(1) };
}
