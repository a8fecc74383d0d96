import type { EventRow } from './event-table.ts';

/** An event on its way to the store's thread: a list of plain values, as commands are (`command-values.ts`). */
export type EventValues = readonly [
  channel: string,
  epoch: number,
  seq: number,
  type: string,
  atMs: number,
  data: string,
  producer: string | undefined,
  producerSeq: number,
];

export function eventValues(row: EventRow): EventValues {
  return [row.channel, row.epoch, row.seq, row.type, row.atMs, row.data, row.producer, row.producerSeq];
}

export function eventRow([channel, epoch, seq, type, atMs, data, producer, producerSeq]: EventValues): EventRow {
  return { channel, epoch, seq, type, atMs, data, producer, producerSeq };
}
