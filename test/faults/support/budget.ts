import { defaultLimits } from '../../../src/gateway/options.ts';
import { settingsFrom } from '../../../src/hub/options.ts';
import type { CrowdSize } from './crowd.ts';

const kib = 1024;
const mib = 1024 * kib;

/** What a hub may hold for devices and browsers that do not read. */
export interface Budget {
  /** Commands to one device that were accepted and are not over. */
  readonly openEach: number;
  /** Of heap and buffers, for all of them together. */
  readonly bytes: number;
  /** Of resident memory. */
  readonly residentBytes: number;
}

/** The budget of a crowd, by the limits that the hub was given and those that it has by itself. */
export function budgetOf({ count, contentBytes }: CrowdSize, { waitingBytes }: { waitingBytes: number }): Budget {
  // What may wait; the command that was written, and the one before it in the grace that follows its time.
  const openEach = Math.floor(waitingBytes / contentBytes) + 2;
  // The call that each of them came with, and in its channel a thousand steps.
  const [call, step] = [16 * kib, 256];
  // One command is also the frame that its stream does not take.
  const device = (openEach + 1) * contentBytes + openEach * call + 1000 * step;
  // Full, and one write beyond that.
  const browser = defaultLimits.streamBufferBytes + 64 * kib;
  // Ended commands; events read from the disk; those of the browsers' channel in memory, as they are and as frames.
  const shared = settingsFrom({}).rememberedBytes + 16 * mib + 2 * mib;
  const bytes = count * (device + browser) + shared;
  // The allocator may leave as much in holes; V8's young generation grows to its full size, whoever reads.
  return { openEach, bytes, residentBytes: 2 * bytes + 128 * mib };
}
