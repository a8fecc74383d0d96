import type { Position } from '../../events/event-log.ts';

/** Temporary: until src/events brings its own cursors. */
export function cursorOf(positions: readonly Position[]): string {
  return positions.map(({ epoch, seq }) => `${epoch.toString(36)}.${seq.toString(36)}`).join('~');
}

export function positionsOf(cursor: string, count: number): Position[] | undefined {
  const parts = cursor.split('~');
  if (parts.length !== count) return undefined;
  const positions = parts.map((part) => {
    const match = /^([0-9a-z]{1,9})\.([0-9a-z]{1,9})$/.exec(part);
    return match ? { epoch: Number.parseInt(match[1]!, 36), seq: Number.parseInt(match[2]!, 36) } : undefined;
  });
  return positions.every((p) => p !== undefined) ? (positions as Position[]) : undefined;
}
