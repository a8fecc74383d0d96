import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  clearServices,
  closeTransports,
  type RemoteTransport,
  type RoadOptions,
  registerService,
  StreamingCommandClient,
  setRemoteRoads,
  type Token,
} from '../../src/commands/index.ts';
import type { CommandCodec } from '../../src/protocol/codec.ts';
import type { Command } from '../../src/protocol/command.ts';
import { ScriptedTransport } from './scripted-transport.ts';

const text: CommandCodec<string> = { type: 'my.Text', encode: (t) => Buffer.from(t), decode: String };

class Remote extends ScriptedTransport implements RemoteTransport {
  readonly address: string;
  readonly token: Token | undefined;
  closed = 0;

  constructor(address: string, token: Token | undefined) {
    super(answer);
    this.address = address;
    this.token = token;
  }

  close(): void {
    this.closed++;
  }
}

const answer = (sent: { tell(...s: ('queued' | 'delivered')[]): unknown }): void =>
  void sent.tell('queued', 'delivered');

let opened: Remote[];
let defaultAddress: string | undefined;

beforeEach(() => {
  opened = [];
  defaultAddress = undefined;
  setRemoteRoads({
    connect(address, { token }) {
      const remote = new Remote(address, token);
      opened.push(remote);
      return remote;
    },
    defaultAddress: () => defaultAddress,
    defaultToken: () => 'from the environment',
  });
});

afterEach(async () => {
  await closeTransports();
  clearServices();
});

const clientOn = (options: RoadOptions) => new StreamingCommandClient({ clientId: 'p', codec: text, ...options });
const commandsOf = (transport: ScriptedTransport): Command[] => transport.sent.map((sent) => sent.command);

describe('which road a command takes', () => {
  test('an explicit transport comes before all others', async () => {
    const [own, registered] = [new ScriptedTransport(answer), new ScriptedTransport(answer)];
    registerService('default', registered);
    defaultAddress = 'hub:1';
    await clientOn({ transport: own }).send('x');
    expect([commandsOf(own).length, commandsOf(registered).length, opened.length]).toEqual([1, 0, 0]);
  });

  test('an explicit address comes before a registered service', async () => {
    registerService('default', new ScriptedTransport(answer));
    await clientOn({ address: 'hub:50051', token: 't' }).send('x');
    expect(opened).toMatchObject([{ address: 'hub:50051', token: 't' }]);
  });

  test('a service of this process comes before SIGNALBOX_ADDRESS', async () => {
    const registered = new ScriptedTransport(answer);
    registerService('default', registered);
    defaultAddress = 'hub:1';
    await clientOn({}).send('x');
    expect([commandsOf(registered).length, opened.length]).toEqual([1, 0]);
  });

  test('SIGNALBOX_ADDRESS is the last, also for a named service that is not here', async () => {
    registerService('default', new ScriptedTransport(answer));
    defaultAddress = 'hub:1';
    await clientOn({ service: 'north' }).send('x');
    expect(opened).toMatchObject([{ address: 'hub:1' }]);
  });

  test('SIGNALBOX_TOKEN goes to SIGNALBOX_ADDRESS and to no other hub', async () => {
    defaultAddress = 'hub:1';
    await clientOn({}).send('x');
    await clientOn({ token: 'own' }).send('x');
    await clientOn({ address: 'elsewhere:1' }).send('x');
    expect(opened.map(({ address, token }) => [address, token])).toEqual([
      ['hub:1', 'from the environment'],
      ['hub:1', 'own'],
      ['elsewhere:1', undefined],
    ]);
  });

  test('without any the error names all four', async () => {
    await expect(clientOn({ service: 'north' }).send('x')).rejects.toMatchObject({
      code: 'unavailable',
      message:
        'no road to the hub: give a transport or an address, register a service named "north" in this process, ' +
        'or set SIGNALBOX_ADDRESS',
    });
  });

  test('a service may be registered after its clients were made, and be replaced later', async () => {
    const client = clientOn({});
    const [first, second] = [new ScriptedTransport(answer), new ScriptedTransport(answer)];
    registerService('default', first);
    await client.send('1');
    registerService('default', second, { replace: true });
    await client.send('2');
    expect([commandsOf(first).length, commandsOf(second).length]).toEqual([1, 1]);
  });

  test.each([
    [{ address: '' }, 'address is ""'],
    [{ transport: {} as ScriptedTransport }, 'transport is [object Object]: it has to be a CommandTransport'],
    [{ transport: new ScriptedTransport(), address: 'hub:1' }, 'both a transport and the address hub:1'],
  ])('contradictions are refused when the client is made', (options, message) => {
    expect(() => clientOn(options)).toThrow(message);
  });
});

describe('connections to other processes', () => {
  test('clients with the same address and token share one; the last to close closes it', async () => {
    const [a, b, other] = [
      clientOn({ address: 'hub:1', token: 't' }),
      clientOn({ address: 'hub:1', token: 't' }),
      clientOn({ address: 'hub:1', token: 'u' }),
    ];
    for (const client of [a, b, other, a]) await client.send('x');
    expect(opened.map(({ token }) => token)).toEqual(['t', 'u']);
    await a.close();
    await a.close();
    expect(opened[0]!.closed).toBe(0);
    await b.close();
    expect(opened.map(({ closed }) => closed)).toEqual([1, 0]);
  });

  test('closeTransports closes them all once; a client that is used again connects anew', async () => {
    const client = clientOn({ address: 'hub:1' });
    await client.send('x');
    await closeTransports();
    expect(opened[0]!.closed).toBe(1);
    await client.send('x');
    expect(opened).toHaveLength(2);
    await client.close();
    expect(opened.map(({ closed }) => closed)).toEqual([1, 1]);
  });

  test('a closed client refuses, and leaves the transport that it was given open', async () => {
    const remote = new Remote('own', undefined);
    const client = clientOn({ transport: remote });
    await client.close();
    await expect(client.send('x')).rejects.toMatchObject({ code: 'unavailable', message: 'this client is closed' });
    expect(remote.closed).toBe(0);
  });
});
