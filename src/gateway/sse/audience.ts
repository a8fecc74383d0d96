import { channelsFingerprint, encodeCursor } from '../../events/cursor.ts';
import type { Position } from '../../events/event-log.ts';
import { Batch } from './batch.ts';
import { idLine } from './frame.ts';
import type { Stretch } from './stretch.ts';

/** Who stands at a position of one channel. */
interface Standing {
  readonly at: Position;
}

/**
 * All watchers of the same channels. Ids tell the place in every channel, so they differ from watcher to watcher; but
 * those who are up to date stand at the same places, and share the bytes.
 */
export class Audience {
  readonly name: string;
  readonly keys: readonly string[];
  watchers = 0;
  readonly #fingerprint: Buffer;
  #last: { readonly stretch: Stretch; readonly others: readonly Position[]; readonly batch: Batch } | undefined;

  /** `keys`: as `cursorChannels` orders them. */
  constructor(name: string, keys: readonly string[]) {
    this.name = name;
    this.keys = keys;
    this.#fingerprint = channelsFingerprint(keys);
  }

  /** Positions, in the order of the channels, as one text. */
  cursorOf(positions: readonly Position[]): string {
    return encodeCursor(this.#fingerprint, positions);
  }

  /** The frames of a stretch for a watcher at these places, of which `moving` is the one that the stretch is for. */
  framesOf(stretch: Stretch, places: readonly Standing[], moving: Standing): Batch {
    const last = this.#last;
    if (last !== undefined && last.stretch === stretch && areSame(last.others, places, moving)) return last.batch;
    const positions = places.map(({ at }) => at);
    const index = places.indexOf(moving);
    const parts: Buffer[] = [];
    for (const { body, after } of stretch.items) {
      positions[index] = after;
      parts.push(Buffer.from(idLine(this.cursorOf(positions))), body);
    }
    const batch = new Batch(parts);
    this.#last = { stretch, others: positions, batch };
    return batch;
  }
}

function areSame(positions: readonly Position[], places: readonly Standing[], except: Standing): boolean {
  for (let i = 0; i < places.length; i++) {
    const place = places[i]!;
    if (place === except) continue;
    const position = positions[i]!;
    if (place.at.seq !== position.seq || place.at.epoch !== position.epoch) return false;
  }
  return true;
}
