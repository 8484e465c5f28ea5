/**
 * Finds where a Zstandard frame ends, without unpacking it.
 *
 * Invariant: reads only headers, whose size is bounded; the bytes between them are counted, not
 * kept.
 *
 * RFC 8878, section 3.1:
 *
 *     frame      magic u32 (0xfd2fb528) | descriptor u8 | window 0–1 | dictionary 0–4 | content size 0–8 |
 *                blocks | checksum 0 or 4
 *     descriptor bits 7–6 content size flag, 5 single segment, 2 checksum, 1–0 dictionary flag
 *     block      u24 little-endian: bit 0 last, bits 2–1 type (0 raw, 1 RLE, 2 compressed), bits 23–3 size
 *     skippable  magic u32 (0x184d2a50 … 5f) | size u32 | that many bytes
 */

export const ZSTD_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const SKIPPABLE_MAGIC_MASK = 0xfffffff0;

const MAGIC_BYTES = 4;
const DESCRIPTOR_BYTES = 1;
const SKIPPABLE_SIZE_BYTES = 4;
const BLOCK_HEADER_BYTES = 3;
const CHECKSUM_BYTES = 4;

const SINGLE_SEGMENT = 0x20;
const HAS_CHECKSUM = 0x04;
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;

type Header = 'magic' | 'skippable-size' | 'descriptor' | 'block';

export class ZstdFrame {
  /** The frame's last byte was seen. */
  complete = false;
  /** The frame carries no data (known once its first four bytes were seen). */
  skippable = false;

  /** The header that is read once `#skip` bytes went by. */
  #expected: Header | 'end' = 'magic';
  #skip = 0;
  #value = 0;
  #valueBytes = 0;
  #hasChecksum = false;

  /**
   * Takes the next bytes and answers how many of them belong to this frame.
   * @throws Error if they are no frame.
   */
  advance(bytes: Uint8Array): number {
    let position = 0;
    while (true) {
      const step = Math.min(this.#skip, bytes.length - position);
      this.#skip -= step;
      position += step;
      if (this.#skip > 0) return position;
      if (this.#expected === 'end') {
        this.complete = true;
        return position;
      }
      const wanted = headerBytes(this.#expected);
      while (this.#valueBytes < wanted) {
        const byte = bytes[position];
        if (byte === undefined) return position;
        this.#value += byte * 2 ** (8 * this.#valueBytes++);
        position++;
      }
      const value = this.#value;
      this.#value = 0;
      this.#valueBytes = 0;
      this.#interpret(this.#expected, value);
    }
  }

  #interpret(header: Header, value: number): void {
    switch (header) {
      case 'magic':
        this.skippable = (value & SKIPPABLE_MAGIC_MASK) >>> 0 === SKIPPABLE_MAGIC;
        if (value !== ZSTD_MAGIC && !this.skippable) {
          throw new Error('a Zstandard frame is followed by unrelated bytes');
        }
        this.#expected = this.skippable ? 'skippable-size' : 'descriptor';
        return;
      case 'skippable-size':
        this.#skip = value;
        this.#expected = 'end';
        return;
      case 'descriptor': {
        const singleSegment = (value & SINGLE_SEGMENT) !== 0;
        const contentSizeFlag = value >>> 6;
        const contentSize =
          contentSizeFlag === 0 && singleSegment ? 1 : (CONTENT_SIZE_BYTES[contentSizeFlag] ?? 0);
        this.#hasChecksum = (value & HAS_CHECKSUM) !== 0;
        this.#skip = (singleSegment ? 0 : 1) + (DICTIONARY_BYTES[value & 3] ?? 0) + contentSize;
        this.#expected = 'block';
        return;
      }
      case 'block': {
        const type = (value >>> 1) & 3;
        if (type === BLOCK_RESERVED) throw new Error('a Zstandard block of the reserved type');
        this.#skip = type === BLOCK_RLE ? 1 : value >>> 3;
        if ((value & 1) === 0) return;
        if (this.#hasChecksum) this.#skip += CHECKSUM_BYTES;
        this.#expected = 'end';
        return;
      }
    }
  }
}

function headerBytes(header: Header): number {
  switch (header) {
    case 'magic':
      return MAGIC_BYTES;
    case 'skippable-size':
      return SKIPPABLE_SIZE_BYTES;
    case 'descriptor':
      return DESCRIPTOR_BYTES;
    case 'block':
      return BLOCK_HEADER_BYTES;
  }
}
