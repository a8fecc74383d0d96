import { type Submission, submit } from './callers.ts';
import type { ClusterWorld } from './cluster.ts';
import type { CallerLine, EffectLine } from './ledger.ts';
import { sleep } from './sizes.ts';

/** What live commands came to: every caller got one answer, and nothing ran that was not to. */
export function liveVerdict(lines: readonly CallerLine[], effects: readonly EffectLine[]) {
  const answers = new Map<string, string>();
  for (const line of lines)
    if (line.kind === 'ended') answers.set(line.id, line.state);
    else if (line.kind === 'refused') answers.set(line.id, line.code);
  const ran = new Map<string, number>();
  for (const { id } of effects) ran.set(id, (ran.get(id) ?? 0) + 1);
  const broken: string[] = [];
  const counts: Record<string, number> = {};
  for (const line of lines) {
    if (line.kind !== 'submitted') continue;
    const answer = answers.get(line.id);
    const times = ran.get(line.id) ?? 0;
    counts[answer ?? 'none'] = (counts[answer ?? 'none'] ?? 0) + 1;
    if (answer === undefined) broken.push(`${line.id} was never answered`);
    if (times > 1) broken.push(`${line.id} ran ${times} times (${answer})`);
    if (answer === 'succeeded' && times !== 1) broken.push(`${line.id} succeeded and ran ${times} times`);
    if ((answer === 'client-offline' || answer === 'unavailable') && times > 0)
      broken.push(`${line.id} was refused (${answer}) and ran`);
  }
  return { broken, counts };
}

/**
 * Sends one after the other to each client, by callers who know all nodes, until told to stop. `pauseMs`: between two to one
 * client; the default keeps a machine busy with a dozen clients.
 */
export function traffic(
  world: ClusterWorld,
  names: readonly string[],
  { live, perClient, pauseMs = live ? 40 : 15 }: { live: boolean; perClient: number; pauseMs?: number },
) {
  const transports = [world.transport(), world.transport(), world.transport()];
  let accepted = 0;
  let isOver = false;
  const caller = async (clientId: string, index: number): Promise<void> => {
    const open = new Set<Promise<string>>();
    for (let n = 0; n < perClient && !isOver; n++) {
      const order: Submission = { clientId, content: `${clientId} ${n}`, live, retries: live ? 0 : 1000 };
      const one = submit(transports[(index + n) % 3]!, live ? world.live : world.queued, order);
      if (await one.accepted) accepted++;
      open.add(one.ended);
      void one.ended.then(() => open.delete(one.ended));
      while (open.size > (live ? 2 : 8)) await Promise.race(open);
      await sleep(pauseMs);
    }
    await Promise.all(open);
  };
  const done = Promise.all(names.map(caller));
  done.catch(() => undefined);
  return {
    done,
    stop: () => (isOver = true),
    get accepted() {
      return accepted;
    },
  };
}

/** The effects of what these callers sent. */
export function ranBy(lines: readonly CallerLine[], effects: readonly EffectLine[]): EffectLine[] {
  const ids = new Set(lines.map(({ id }) => id));
  return effects.filter(({ id }) => ids.has(id));
}
