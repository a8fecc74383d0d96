// Single ideas by themselves, without a network: how long each way takes for one, in us.
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import { systemClock } from '../../src/flow/clock.ts';
import { Alarm, TimingWheel } from '../../src/flow/timing-wheel.ts';
import { encodeMessage } from '../../src/protocol/codec.ts';
import { type DownFrame, encodeDown } from '../../src/protocol/frames.ts';
import { ConnectResponse } from '../../src/protocol/gen/signalbox/v1/device.ts';
import { actor } from '../actor.ts';
import { blobOf } from '../blob.ts';

const frame: DownFrame = {
  seq: 1000,
  ack: 999,
  body: {
    $case: 'command',
    value: {
      id: '0d9f8a52-7c1e-4c3a-9b52-5f0f6f6f0001',
      payload: { type: 'bench.Blob', value: blobOf(100) },
      startWithinMs: 0,
      finishWithinMs: 30_000,
      idempotent: false,
      orderingKey: '',
      traceparent: '',
    },
  },
};
const event = { channel: 'bench', seq: 1, type: 'tick', data: { text: 'x'.repeat(100) } };
const sseFrame = (): Buffer => Buffer.from(`id: bench.1\nevent: tick\ndata: ${JSON.stringify(event)}\n\n`);

const wheel = new TimingWheel({ clock: systemClock });
const wheelAlarms = Array.from({ length: 1000 }, () => new Alarm());
const timers: (NodeJS.Timeout | undefined)[] = new Array(1000).fill(undefined);
let at = 0;
let sink = 0;

/** Each does one thing once. */
const ways = {
  'encode with a new writer': () => ConnectResponse.encode(frame, new BinaryWriter()).finish().length,
  'encode with one writer': () => encodeMessage(ConnectResponse, frame).length,
  'encode by hand': () => encodeDown(frame).length,
  // 1,000 commands are under way; each sets its time and is over long before.
  'a timer each': () => {
    at = (at + 1) % 1000;
    clearTimeout(timers[at]);
    timers[at] = setTimeout(() => undefined, 30_000);
    return at;
  },
  'a wheel for all': () => {
    at = (at + 1) % 1000;
    wheel.clear(wheelAlarms[at]!);
    wheel.set(wheelAlarms[at]!, 30_000);
    return at;
  },
  // For one of a thousand watchers.
  'a frame for each watcher': () => sseFrame().length,
  'a frame for all watchers': () => {
    at = (at + 1) % 1000;
    if (at === 0) shared = sseFrame();
    return shared.length;
  },
} satisfies Record<string, () => number>;
export type Way = keyof typeof ways;
let shared = sseFrame();

export const verbs = actor({
  /** Does it for so many seconds; us for one. */
  time({ way, seconds }: { way: Way; seconds: number }): Record<string, number> {
    const run = ways[way];
    let count = 0;
    const begun = performance.now();
    const before = process.cpuUsage();
    while (performance.now() - begun < seconds * 1000) for (let i = 0; i < 1000; i++, count++) sink += run();
    const { user, system } = process.cpuUsage(before);
    for (const timer of timers) clearTimeout(timer);
    for (const each of wheelAlarms) wheel.clear(each);
    if (sink === 0) throw new Error('nothing was done');
    return { us: (user + system) / count };
  },
});
export type IdeasVerbs = typeof verbs;
