import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { StartRequest, StopResponse } from '../../src/protocol/gen/signalbox/example/v1/pump.ts';
import { type Schemas, schemasFromDescriptors, schemasFromProto } from '../../src/schemas/index.ts';

const armProto = `
syntax = "proto3";
package acme.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
message Move {
  repeated Inner steps = 1;
  map<string, Inner> named_steps = 2;
  oneof goal { string place = 3; int64 place_number = 4; }
  google.protobuf.Timestamp at = 5;
  message Inner { optional int32 angle = 1; Color color = 2; bytes raw = 3; }
  enum Color { RED = 0; BLUE = 1; }
  google.protobuf.Int32Value speed = 6;
}
message Out { Move done = 1; }
service ArmService { rpc Start(Move) returns (Out); rpc MoveArm(Move) returns (stream Out); }
`;

const folder = mkdtempSync(join(tmpdir(), 'signalbox-schemas-'));
let pump: Schemas;
let both: Schemas;

beforeAll(async () => {
  writeFileSync(join(folder, 'arm.proto'), armProto);
  pump = await schemasFromProto(['signalbox/example/v1/pump.proto'], { includeDirs: ['proto'] });
  both = pump.and(await schemasFromProto([join(folder, 'arm.proto')]));
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('method names', () => {
  test.each([
    'tailLog',
    'TailLog',
    'tail_log',
    'tail-log',
    'PumpService/TailLog',
    'PumpService.tailLog',
    'pump/tailLog',
    'signalbox.example.v1.PumpService/TailLog',
    '/signalbox.example.v1.PumpService/TailLog',
  ])('%s is understood', (method) => {
    expect(both.encode({ method }).type).toBe('signalbox.example.v1.PumpService/TailLog');
  });

  test('a name that two services have is refused with both candidates', () => {
    expect(() => both.encode({ method: 'start' })).toThrow(
      /"start" is ambiguous: write one of acme\.v1\.ArmService\/Start, signalbox\.example\.v1\.PumpService\/Start/,
    );
    expect(both.encode({ method: 'arm/start' }).type).toBe('acme.v1.ArmService/Start');
  });

  test('an unknown name is refused with a suggestion', () => {
    expect(() => pump.encode({ method: 'strat' })).toThrow('no method "strat" is known (did you mean "start"?)');
    expect(() => pump.encode({ method: 'explodeEverything' })).toThrow(/known: start, stop, configUpdate, tailLog/);
  });

  test("the hub's own methods are not a device's", async () => {
    const hub = await schemasFromProto(['signalbox/v1/command.proto'], { includeDirs: ['proto'] });
    expect(hub.methods()).toEqual([]);
    expect(() => hub.encode({ method: 'CancelCommand' })).toThrow(/no method/);
  });
});

describe('JSON', () => {
  test('becomes the bytes that the generated code reads', () => {
    const { type, value } = pump.encode({ method: 'start', json: { rpm: 1200 } });
    expect(type).toBe('signalbox.example.v1.PumpService/Start');
    expect(StartRequest.decode(value)).toEqual({ rpm: 1200 });
  });

  test('comes back with its defaults', () => {
    const value = StopResponse.encode({ ranMs: 0 }).finish();
    expect(pump.decode({ type: 'signalbox.example.v1.StopResponse', value })).toEqual({ ranMs: '0' });
    expect(pump.decode(pump.encode({ method: 'start', json: { rpm: 5 } }))).toEqual({ rpm: 5 });
  });

  test('of nested messages, maps, oneofs and well-known types survives the round trip', () => {
    const json = {
      steps: [{ angle: 0, color: 'BLUE', raw: 'AQI=' }],
      namedSteps: { left: { angle: -3, color: 'RED', raw: '' } },
      placeNumber: '9007199254740993',
      at: '2026-01-02T03:04:05Z',
      speed: 7,
    };
    const payload = both.encode({ type: 'acme.v1.Move', json });
    expect(both.decode(payload)).toEqual(json);
    expect(both.encode({ type: 'Move', json })).toEqual(payload);
  });

  test.each([
    [{ rmp: 1 }, /unknown key "rmp": signalbox\.example\.v1\.StartRequest has no such field \(did you mean "rpm"\?\)/],
    [JSON.parse('{"__proto__": {}}'), /unknown key "__proto__"/],
    [{ rpm: 'fast' }, /StartRequest\.rpm from JSON.*"fast"/],
    [{ rpm: -1 }, /StartRequest\.rpm/],
    [[1], /StartRequest/],
    ['text', /StartRequest/],
  ])('%j for a start is refused by name', (json, message) => {
    expect(() => pump.encode({ method: 'start', json })).toThrow(message);
  });

  test('a wrong key deep inside is named with its path', () => {
    const wrong = (json: unknown) => () => both.encode({ type: 'acme.v1.Out', json });
    expect(wrong({ done: { steps: [{}, { angel: 1 }] } })).toThrow(/unknown key "done\.steps\[1\]\.angel".*"angle"/);
    expect(wrong({ done: { named_steps: { a: { x: 1 } } } })).toThrow(/unknown key "done\.named_steps\["a"\]\.x"/);
  });

  test('of an unknown type, or bytes that are not of their type, is undefined', () => {
    expect(pump.decode({ type: 'other.Thing', value: new Uint8Array() })).toBeUndefined();
    expect(pump.decode({ type: 'signalbox.example.v1.StartRequest', value: Buffer.from('ff', 'hex') })).toBeUndefined();
  });
});

describe('sources', () => {
  test('a missing file is named', async () => {
    await expect(schemasFromProto(['nowhere.proto'])).rejects.toThrow('no such file: nowhere.proto');
  });

  test('a file that is not proto is named', async () => {
    writeFileSync(join(folder, 'bad.proto'), 'syntax = "proto3"; message {');
    await expect(schemasFromProto([join(folder, 'bad.proto')])).rejects.toThrow(/cannot read .*bad\.proto/);
  });

  test('bytes that are no descriptor set are refused', () => {
    expect(() => schemasFromDescriptors(Buffer.from('not a set'))).toThrow(/not a FileDescriptorSet|cannot read/);
  });

  test('an unknown type is refused with a suggestion', () => {
    expect(() => pump.encode({ type: 'PumpComand' })).toThrow('did you mean "PumpCommand"?');
    expect(() => pump.encode({})).toThrow(/either a method or a message type/);
  });
});
