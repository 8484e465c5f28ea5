/**
 * Names as bytes. File names, and names stored in images, are bytes that need not be UTF-8; the
 * program handles them as strings that give back exactly those bytes.
 *
 *   valid UTF-8            the text itself
 *   any other byte 0xNN    the lone low surrogate U+DCNN (Python's `surrogateescape`)
 *
 * Invariant: `bytesOfText(textOfBytes(bytes))` equals `bytes`, whatever they are. Valid UTF-8 never
 * holds surrogates, so a lone one always means a byte; `JSON.stringify` writes it as `\udcNN`.
 */

import { isUtf8 } from 'node:buffer';

const ESCAPE = 0xdc00;
const ESCAPE_MIN = 0xdc80;
const ESCAPE_MAX = 0xdcff;
/** Bytes of the longest character of UTF-8. */
const CHARACTER_MAX = 4;

/** The text that represents `bytes`. */
export function textOfBytes(bytes: Uint8Array): string {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(bytes)) return whole.toString('utf8');
  let text = '';
  for (let at = 0; at < bytes.byteLength;) {
    const length = characterLength(bytes, at);
    text +=
      length === 0 ? String.fromCharCode(ESCAPE + (bytes[at] ?? 0)) : whole.toString('utf8', at, at + length);
    at += Math.max(1, length);
  }
  return text;
}

/** The text of the bytes before the first NUL, as a string of C ends. */
export function textUpToNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return textOfBytes(end < 0 ? bytes : bytes.subarray(0, end));
}

/** The bytes that `text` represents. */
export function bytesOfText(text: string): Buffer {
  if (text.isWellFormed()) return Buffer.from(text);
  const parts: Buffer[] = [];
  // By code points: what is not part of a pair comes as a code point of its own.
  for (const character of text) {
    const code = character.codePointAt(0) ?? 0;
    const isByte = code >= ESCAPE_MIN && code <= ESCAPE_MAX;
    parts.push(isByte ? Buffer.of(code - ESCAPE) : Buffer.from(character));
  }
  return Buffer.concat(parts);
}

/** Bytes of the character of UTF-8 that begins at `at`; 0 if none does. */
function characterLength(bytes: Uint8Array, at: number): number {
  const rest = Math.min(CHARACTER_MAX, bytes.byteLength - at);
  for (let length = 1; length <= rest; length++) {
    if (isUtf8(bytes.subarray(at, at + length))) return length;
  }
  return 0;
}
