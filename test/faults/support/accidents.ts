import type { Child } from './child.ts';
import type { ClusterWorld } from './cluster.ts';
import type { HubProcess } from './hub.ts';
import { type dice, size, sleep } from './sizes.ts';

/** What befalls nodes, in turn: of seven accidents five are kills. */
const kinds = ['killed', 'killed', 'stopped', 'killed', 'killed', 'drained', 'killed'] as const;

export interface AccidentOptions {
  readonly count: number;
  readonly dice: ReturnType<typeof dice>;
  /** Commands that were accepted so far: there is some work between two accidents, however slow the machine is. */
  readonly accepted: () => number;
  /** Starts the devices of one hand, which kills them after each fourth accident. */
  readonly devices: readonly [() => Child, () => Child];
}

/** Two hands do harm at the same time; one node of three is left alone. Resolves to how often what happened. */
export async function accidents(
  { nodes }: ClusterWorld,
  { count, dice: { random, between }, accepted, devices }: AccidentOptions,
) {
  const seen = { killed: 0, stopped: 0, drained: 0, devices: 0 };
  const hurt = new Set<HubProcess>();
  let begun = 0;

  const befall = async (node: HubProcess, kind: (typeof kinds)[number]): Promise<void> => {
    if (kind === 'stopped') {
      node.child.signal('SIGSTOP');
      await sleep(between(1000, 4000));
      node.child.signal('SIGCONT');
      return;
    }
    if (kind === 'killed') await node.child.kill();
    else {
      node.child.signal('SIGTERM');
      const code = await node.child.ended;
      if (code !== 0) throw new Error(`a drained node exited with ${code}\n${node.child.stderr}`);
    }
    if (random() < 0.5) await sleep(between(0, size(1500, 2500)));
    await node.startUntilUp();
  };

  const hand = async (boot: () => Child): Promise<void> => {
    let running = boot();
    for (let mine = 1; begun < count; mine++) {
      const kind = kinds[begun++ % kinds.length]!;
      const [since, enough, patience] = [accepted(), between(10, 60), performance.now() + 1000];
      while (accepted() - since < enough && performance.now() < patience) await sleep(5);
      const well = nodes.filter((node) => !hurt.has(node));
      const node = well[between(0, well.length - 1)]!;
      hurt.add(node);
      await befall(node, kind);
      hurt.delete(node);
      seen[kind]++;
      if (mine % 4 > 0) continue;
      await running.kill();
      running = boot();
      seen.devices++;
    }
  };
  await Promise.all(devices.map(hand));
  return seen;
}
