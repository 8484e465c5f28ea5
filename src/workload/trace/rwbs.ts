/**
 * The letters by which the kernel's tracing says what a request is, in the column RWBS.
 *
 *     F before the operation: flush first | R read, W write, D discard, N none, ZA zone append |
 *     F after it: FUA | A ahead | S sync | M metadata
 */

import type { BlockKind } from './block-action.ts';

const LETTER_A = 0x41;
const LETTER_D = 0x44;
const LETTER_F = 0x46;
const LETTER_R = 0x52;
const LETTER_W = 0x57;
const LETTER_Z = 0x5a;

/** What the letters that were read last mean; one for all lines of a trace. */
export class Rwbs implements BlockKind {
  flushes = false;
  /** `undefined` if it neither reads, writes nor discards. */
  op: 'read' | 'write' | 'discard' | undefined;
  fua = false;
  isZoneAppend = false;
  #bytes: Uint8Array = new Uint8Array(0);
  #start = 0;
  #end = 0;

  /** The letters. */
  get name(): string {
    return Buffer.from(this.#bytes.subarray(this.#start, this.#end)).toString('latin1');
  }

  read(bytes: Uint8Array, start: number, end: number): void {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.flushes = bytes[start] === LETTER_F;
    const at = this.flushes ? start + 1 : start;
    const letter = at < end ? bytes[at] : undefined;
    this.isZoneAppend = letter === LETTER_Z && bytes[at + 1] === LETTER_A && at + 1 < end;
    this.op =
      letter === LETTER_R
        ? 'read'
        : letter === LETTER_W || this.isZoneAppend
          ? 'write'
          : letter === LETTER_D
            ? 'discard'
            : undefined;
    const behind = this.isZoneAppend ? at + 2 : at + 1;
    this.fua = this.op === 'write' && behind < end && bytes[behind] === LETTER_F;
  }
}
