import { expect, test } from 'vitest';
import { encodeFrame, idLine } from '../../src/gateway/sse/frame.ts';

test('no line break and no NUL of a name, of data or of an id ends a field', () => {
  for (const forged of ['\r', '\n', '\r\n', '\0']) {
    const frame = String(encodeFrame(`a${forged}data: forged`, `{"x":${forged}1}`));
    expect(frame.split(/\r\n|\r|\n/)).toEqual([
      expect.stringMatching(/^event: a +data: forged$/),
      expect.stringMatching(/^data: \{"x": +1\}$/),
      '',
      '',
    ]);
    expect(frame).not.toContain('\0');
    expect(idLine(`a${forged}b`)).toMatch(/^id: a +b\n$/);
  }
});

test('a frame that is kept keeps nothing but itself', () => {
  expect(encodeFrame('temperature', '{"celsius":71}').buffer.byteLength).toBeLessThan(100);
});
