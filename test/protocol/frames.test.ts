import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type DownFrame, decodeDown, decodeUp, encodeDown, encodeUp, type UpFrame } from '../../src/protocol/frames.ts';
import { CommandState } from '../../src/protocol/gen/signalbox/v1/command.ts';
import { ConnectRequest, ConnectResponse } from '../../src/protocol/gen/signalbox/v1/device.ts';
import { encodeEnvelope, encodeSuccess, upTag } from '../../src/protocol/hot-frames.ts';

const uint32 = fc.oneof(fc.nat(300), fc.integer({ min: 0, max: 2 ** 32 - 1 }));
const text = fc.oneof(
  fc.string({ maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 20 }),
  fc.constant('x'.repeat(300)),
);
const payload = fc.record({ type: text, value: fc.uint8Array({ maxLength: 300 }) });

const commandFrame: fc.Arbitrary<DownFrame> = fc.record({
  seq: uint32,
  ack: uint32,
  body: fc.record({
    $case: fc.constant('command' as const),
    value: fc.record({
      id: text,
      payload: fc.option(payload, { nil: undefined }),
      startWithinMs: uint32,
      finishWithinMs: uint32,
      idempotent: fc.boolean(),
      orderingKey: text,
      traceparent: text,
    }),
  }),
});

const resultFrame: fc.Arbitrary<UpFrame> = fc.record({
  seq: uint32,
  ack: uint32,
  body: fc.record({
    $case: fc.constant('result' as const),
    value: fc.record({
      commandId: text,
      state: fc.constantFrom(0, 6, 7, 11, 99) as fc.Arbitrary<6>,
      payload: fc.option(payload, { nil: undefined }),
      error: fc.option(fc.record({ code: text, message: text }), { nil: undefined }),
    }),
  }),
});

test('a command frame is written by hand exactly as the generated code writes it', () => {
  fc.assert(
    fc.property(commandFrame, (frame) => {
      expect(encodeDown(frame)).toEqual(Buffer.from(ConnectResponse.encode(frame).finish()));
      expect(encodeDown(frame, 5).subarray(5)).toEqual(encodeDown(frame));
      expect(plain(decodeDown(encodeDown(frame)))).toEqual(plain(frame));
    }),
  );
});

test('a result frame is read by hand exactly as the generated code reads it', () => {
  fc.assert(
    fc.property(resultFrame, (frame) => {
      expect(plain(decodeUp(encodeUp(frame)))).toEqual(plain(frame));
    }),
  );
});

test('a success in its envelope is written by hand exactly as the generated code writes it', () => {
  fc.assert(
    fc.property(uint32, uint32, text, payload, (seq, ack, commandId, answer) => {
      const state = CommandState.COMMAND_STATE_SUCCEEDED;
      const value = { commandId, state, payload: answer, error: undefined };
      const body = encodeSuccess(commandId, answer);
      const isPlain = [...commandId, ...answer.type].every((each) => each.charCodeAt(0) < 0x80);
      expect(body !== undefined).toBe(isPlain);
      if (body === undefined) return;
      const frame = Buffer.from(ConnectRequest.encode({ seq, ack, body: { $case: 'result', value } }).finish());
      expect(encodeEnvelope(seq, ack, upTag(6), body)).toEqual(frame);
    }),
  );
});

test('commands that are changed, cut or made up are read as the generated code reads them, or refused like it', () => {
  const change = fc.record({ at: fc.nat(400), to: fc.nat(255) });
  fc.assert(
    fc.property(commandFrame, fc.array(change, { maxLength: 4 }), fc.nat(400), (frame, changes, length) => {
      const bytes = encodeDown(frame).subarray(0, Math.max(1, length));
      for (const { at, to } of changes) if (at < bytes.length) bytes[at] = to;
      expect(outcome(() => decodeDown(bytes))).toEqual(outcome(() => ConnectResponse.decode(bytes)));
    }),
    { numRuns: 2000 },
  );
});

test('bytes that are changed, cut or made up are read as the generated code reads them, or refused like it', () => {
  const change = fc.record({ at: fc.nat(400), to: fc.nat(255) });
  fc.assert(
    fc.property(resultFrame, fc.array(change, { maxLength: 4 }), fc.nat(400), (frame, changes, length) => {
      const bytes = encodeUp(frame).subarray(0, Math.max(1, length));
      for (const { at, to } of changes) if (at < bytes.length) bytes[at] = to;
      expect(outcome(() => decodeUp(bytes))).toEqual(outcome(() => ConnectRequest.decode(bytes)));
    }),
    { numRuns: 2000 },
  );
});

function outcome(decode: () => UpFrame | DownFrame): unknown {
  try {
    return plain(decode());
  } catch {
    return 'refused';
  }
}

/** Buffers and typed arrays of the same bytes are equal here. */
function plain(frame: UpFrame | DownFrame): unknown {
  return JSON.parse(
    JSON.stringify(frame, (_, value) =>
      value?.type === 'Buffer' ? value.data : value instanceof Uint8Array ? [...value] : value,
    ),
  );
}
