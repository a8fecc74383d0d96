import { expect, test } from 'vitest';
import { HubError } from '../../src/errors.ts';
import { Hub, memoryCommandStore } from '../../src/hub/index.ts';
import { scriptedDevice, virtualClock } from '../../src/testing/index.ts';

test('a session in which a result was received and not taken over is not resumed, so that the device tells it again', async () => {
  const clock = virtualClock();
  const commands = memoryCommandStore();
  const get = commands.get.bind(commands);
  commands.get = async () => {
    throw new HubError('unavailable', 'the store is away');
  };
  const hub = new Hub({ clock, commands });
  const device = scriptedDevice(hub);
  const { session } = await device.hello({ bootId: 'boot-1' });
  device.succeed('of-an-earlier-hub');
  device.cut();
  await clock.advance(2000);
  commands.get = get;
  const again = scriptedDevice(hub);
  const resume = { session, lastSeq: device.received };
  expect(await again.hello({ bootId: 'boot-1', resume })).toMatchObject({ resumed: false });
  await hub.close();
});
