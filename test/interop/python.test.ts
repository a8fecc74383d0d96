import { expect, test } from 'vitest';
import { debianPython } from '../../scripts/debian.ts';
import { commandClient } from '../../src/index.ts';
import {
  PumpServiceDefinition,
  StartRequest,
  StartResponse,
} from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { scriptedDevice } from '../../src/testing/index.ts';
import { describeNeeding } from '../support/needs.ts';
import { Program } from '../support/program.ts';
import { connected, startHub } from './hub.ts';

const python = (script: string, ...args: string[]): Program =>
  new Program(debianPython, [`examples/python/${script}`, ...args], {
    env: { PYTHONDONTWRITEBYTECODE: '1' },
  });

describeNeeding('pythonGrpc', "Debian's python3-grpcio", () => {
  test('a device in Python takes commands, tells an event, and leaves on Ctrl-C', async () => {
    const { hub, address } = await startHub();
    const device = python('device.py', 'pump-py', address);
    await connected(hub, 'pump-py');
    const pump = commandClient(PumpServiceDefinition, { clientId: 'pump-py', transport: hub });
    expect(await pump.start({ rpm: 900 })).toEqual({ rpm: 900 });
    expect(await pump.stop({})).toEqual({ ranMs: 0 });
    await expect(pump.configUpdate({})).rejects.toMatchObject({ code: 'command-rejected', deviceCode: 'no-handler' });
    device.signal('SIGINT');
    expect(await device.ended(), device.stderr).toBe(0);
    expect(device.stdout).toContain('pump-py has left');
    expect(hub.clients.isConnected('default', 'pump-py')).toBe(false);
  });

  test('a caller in Python sends a command and hears every update', async () => {
    const { hub, address } = await startHub();
    const device = scriptedDevice(hub);
    await device.hello({ clientId: 'pump-7' });
    const caller = python('caller.py', 'pump-7', '900', address);
    const { id, payload } = await device.command();
    const { rpm } = StartRequest.decode(payload!.value);
    const value = StartResponse.encode({ rpm }).finish();
    device.succeed(id, { type: 'signalbox.example.v1.StartResponse', value });
    expect(await caller.ended(), caller.stderr).toBe(0);
    expect(caller.stdout.trim().split('\n')).toEqual(
      expect.arrayContaining(['queued', 'delivered', 'succeeded: 900 rpm']),
    );
  });

  test('a caller in Python is told by a status that a client is away', async () => {
    const { address } = await startHub();
    const caller = python('caller.py', 'pump-9', '900', address);
    expect(await caller.ended()).toBe(1);
    expect(caller.stderr).toContain('UNAVAILABLE');
    expect(caller.stderr).toContain('pump-9');
  });

  test('a Python device and a Python caller understand each other through the hub', async () => {
    const { hub, address } = await startHub();
    python('device.py', 'pump-py', address);
    await connected(hub, 'pump-py');
    const caller = python('caller.py', 'pump-py', '1500', address);
    expect(await caller.ended(), caller.stderr).toBe(0);
    expect(caller.stdout).toContain('succeeded: 1500 rpm');
  });
});
