// Devices with the device library as it is, one connection each, that answer every command with its own payload.
import { subscribe } from 'node:diagnostics_channel';
import type { Socket } from 'node:net';
import { setPriority } from 'node:os';
import { connectDevice, type Device } from '../../src/device/index.ts';
import { actor } from '../actor.ts';
import { blob } from '../blob.ts';
import { cutAndWait } from '../cut.ts';
import { inBatches } from '../load.ts';
import { loopFirst } from '../processor.ts';

const devices: Device[] = [];
const sockets = new Set<Socket>();
subscribe('net.client.socket', (message) => {
  const { socket } = message as { socket: Socket };
  sockets.add(socket);
  socket.once('close', () => sockets.delete(socket));
});

export const verbs = actor({
  async open({ address, prefix, count, from = 0 }: { address: string; prefix: string; count: number; from?: number }) {
    const connected = await inBatches(count, 50, async (index) => {
      const device = await connectDevice({ address, clientId: `${prefix}-${from + index}`, connectTimeoutMs: 60_000 });
      device.handle(blob, (payload) => payload, { result: blob });
      return device;
    });
    devices.push(...connected);
  },

  /** From now on these devices take only what the others leave of the processor, as if they had one of their own. */
  stepBack(): void {
    setPriority(10);
  },

  loopFirst,

  /** Resets every connection at once; tells when the devices were back, as seconds after the cut. */
  cut: () =>
    cutAndWait(sockets, (isBack) =>
      devices.map((device) =>
        device.onStateChange((state) => {
          if (state.kind === 'connected') isBack(device);
        }),
      ),
    ),
});
export type DevicesVerbs = typeof verbs;
