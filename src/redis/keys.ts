/**
 * Everything that belongs to one client lives in its shard, and has the shard's hash tag in its keys: one script can
 * touch all of it, and a Redis Cluster keeps it on one member. The number can never be changed for what is kept.
 */
export const shards = 64;

/** Shard of a client, or of anything else with a name. */
export function shardOf(name: string): number {
  // FNV-1a over UTF-16 code units: names are ASCII almost always, and it only has to spread.
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % shards;
}

/** What the keys of a shard begin with: `signalbox:{17}:`. */
export function shardPrefix(prefix: string, shard: number): string {
  return `${prefix}:{${shard}}:`;
}
