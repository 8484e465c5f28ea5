import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { bytesOfText, textOfBytes, textUpToNul } from '../../src/core/byte-text.ts';

/** Pieces that make valid, cut, overlong and surrogate sequences meet at every border. */
const PIECES = ['a', 'é', 'e\u0301', '€', '😀', '\ufffd', '\ufeff']
  .map((text) => [...Buffer.from(text)])
  .concat([
    [0xe9],
    [0xc3],
    [0xe2, 0x82],
    [0xf0, 0x9f, 0x98],
    [0xc0, 0xaf],
    [0xed, 0xa0, 0x80],
    [0xed, 0xb3, 0xa9],
    [0xff],
    [0x80],
  ]);

describe('a name as text', () => {
  test('gives back the same bytes, whatever they are', () => {
    const anyBytes = fc.uint8Array({ maxLength: 40 });
    const mixed = fc
      .array(fc.constantFrom(...PIECES), { maxLength: 12 })
      .map((parts) => Uint8Array.from(parts.flat()));
    fc.assert(
      fc.property(fc.oneof(anyBytes, mixed), (bytes) => {
        expect(Uint8Array.from(bytesOfText(textOfBytes(bytes)))).toEqual(Uint8Array.from(bytes));
      }),
      { numRuns: 2000 },
    );
  });

  test('two names are the same text only if they are the same bytes', () => {
    const bytes = fc
      .array(fc.constantFrom(...PIECES), { maxLength: 3 })
      .map((parts) => Buffer.from(parts.flat()));
    fc.assert(
      fc.property(bytes, bytes, (one, other) => {
        expect(textOfBytes(one) === textOfBytes(other)).toBe(one.equals(other));
      }),
    );
  });

  test('valid UTF-8 is the text itself, unnormalised as it is; other bytes are lone surrogates', () => {
    expect(textOfBytes(Buffer.from('e\u0301 😀'))).toBe('e\u0301 😀');
    expect(textOfBytes(Buffer.from('caf\xe9.raw', 'latin1'))).toBe('caf\udce9.raw');
    // A surrogate that was encoded (CESU-8) is three bytes that are no UTF-8.
    expect(textOfBytes(Uint8Array.of(0xed, 0xb3, 0xa9))).toBe('\udced\udcb3\udca9');
    expect(JSON.stringify(textOfBytes(Uint8Array.of(0xe9)))).toBe('"\\udce9"');
  });

  test('ends at a NUL where it is a string of C', () => {
    expect(textUpToNul(Uint8Array.of(0x61, 0xe9, 0, 0x62))).toBe('a\udce9');
  });
});
