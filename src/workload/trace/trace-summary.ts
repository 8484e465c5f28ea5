/**
 * What a trace holds, in figures: counts, bytes, sizes, alignment, footprint, and how much of the
 * writing allocates.
 *
 * Invariants: one pass, and memory that does not grow with the trace: sizes and alignments are
 * counted by powers of two, touched blocks in maps of at most 160 MiB.
 */

import { BlockMap } from './block-map.ts';
import { BLOCK_USES, BlockUses } from './block-uses.ts';
import { FUA_BIT, type RequestColumns } from './request-columns.ts';
import { RequestGrid } from './request-grid.ts';

/** The unit of a footprint, as long as memory suffices: a sector. */
const FOOTPRINT_BLOCK = 512;

export interface TraceFigures {
  readonly requests: number;
  readonly reads: number;
  readonly writes: number;
  readonly flushes: number;
  readonly discards: number;
  readonly writeZeroes: number;
  readonly fuaWrites: number;
  /** Bytes read and written, together and apart; discards and write-zeroes move none. */
  readonly bytes: number;
  readonly readBytes: number;
  readonly writeBytes: number;
  readonly discardBytes: number;
  readonly writeZeroesBytes: number;
  /** From the first request to the last. */
  readonly durationNs: number;
  /** Reads and writes whose length is from `bytes` up to less than twice that. */
  readonly sizes: readonly PowerCount[];
  /**
   * Reads and writes of which `bytes` is the largest power of two that divides offset and length.
   */
  readonly alignments: readonly PowerCount[];
  /** Bytes of the blocks that reads, writes and write-zeroes touch, and those that writes touch. */
  readonly footprintBytes: number;
  readonly writtenBytes: number;
  /** Bytes of a block of these two: 512, or more where the trace touches too many. */
  readonly footprintBlock: number;
  /** Writes that touch a cluster to which nothing was written before them. */
  readonly allocatingWrites: number;
  /** Of these clusters. */
  readonly clusterSize: number;
  /** Clusters that are written to at all. */
  readonly clusters: number;
  /** Where the last request ends. */
  readonly endOffset: number;
  /** Of the bytes read, those of sectors to which nothing was written before. */
  readonly unwrittenReadBytes: number;
}

export interface PowerCount {
  readonly bytes: number;
  readonly reads: number;
  readonly writes: number;
}

const POWERS = 53;

export class TraceSummary {
  /** By time, and by number: the second as long as all times are the same. */
  readonly byTime = new RequestGrid();
  readonly byNumber = new RequestGrid();

  readonly #uses = new BlockUses(FOOTPRINT_BLOCK);
  readonly #clusters: BlockMap;
  readonly #reads = new OpCounts();
  readonly #writes = new OpCounts();
  #flushes = 0;
  readonly #discards = { count: 0, bytes: 0 };
  readonly #writeZeroes = { count: 0, bytes: 0 };
  #requests = 0;
  #fuaWrites = 0;
  #allocatingWrites = 0;
  #unwrittenReadBytes = 0;
  #firstNs: number | undefined;
  #lastNs = 0;
  #endOffset = 0;

  /** @param clusterSize bytes: a power of two. */
  constructor(clusterSize: number) {
    this.#clusters = new BlockMap(clusterSize);
  }

  add(requests: RequestColumns): void {
    const { count, kinds, offsets, lengths, timesNs } = requests;
    if (count === 0) return;
    const firstNs = (this.#firstNs ??= timesNs[0] ?? 0);
    this.#lastNs = timesNs[count - 1] ?? 0;
    const { byTime, byNumber } = this;
    for (let at = 0; at < count; at++) {
      const op = requests.opAt(at);
      const offset = offsets[at] ?? 0;
      const length = lengths[at] ?? 0;
      const isFua = ((kinds[at] ?? 0) & FUA_BIT) !== 0;
      const x = (timesNs[at] ?? 0) - firstNs;
      if (op === 'flush' || isFua) {
        byTime.addFlush(x);
        if (x === 0) byNumber.addFlush(this.#requests);
      }
      if (op === 'read' || op === 'write' || op === 'write-zeroes') {
        byTime.add(op === 'read', offset, length, x);
        if (x === 0) byNumber.add(op === 'read', offset, length, this.#requests);
      }
      this.#requests++;
      if (op === 'flush') {
        this.#flushes++;
        continue;
      }
      if (offset + length > this.#endOffset) this.#endOffset = offset + length;
      switch (op) {
        case 'read':
          this.#reads.add(offset, length);
          this.#unwrittenReadBytes += this.#uses.add(BLOCK_USES.read, offset, length);
          break;
        case 'write':
          this.#writes.add(offset, length);
          this.#uses.add(BLOCK_USES.write, offset, length);
          if (isFua) this.#fuaWrites++;
          if (this.#clusters.add(offset, length)) this.#allocatingWrites++;
          break;
        case 'write-zeroes':
          this.#writeZeroes.count++;
          this.#writeZeroes.bytes += length;
          this.#uses.add(BLOCK_USES.zero, offset, length);
          break;
        case 'discard':
          this.#discards.count++;
          this.#discards.bytes += length;
          this.#uses.add(BLOCK_USES.discard, offset, length);
          break;
      }
    }
  }

  figures(): TraceFigures {
    const reads = this.#reads;
    const writes = this.#writes;
    const uses = this.#uses;
    return {
      requests: this.#requests,
      reads: reads.count,
      writes: writes.count,
      flushes: this.#flushes,
      discards: this.#discards.count,
      writeZeroes: this.#writeZeroes.count,
      fuaWrites: this.#fuaWrites,
      bytes: reads.bytes + writes.bytes,
      readBytes: reads.bytes,
      writeBytes: writes.bytes,
      discardBytes: this.#discards.bytes,
      writeZeroesBytes: this.#writeZeroes.bytes,
      durationNs: this.#lastNs - (this.#firstNs ?? 0),
      sizes: powers(reads.sizes, writes.sizes),
      alignments: powers(reads.alignments, writes.alignments),
      footprintBytes: uses.count((read, write, zero) => read | write | zero) * uses.blockSize,
      writtenBytes: uses.count((_read, write) => write) * uses.blockSize,
      footprintBlock: uses.blockSize,
      allocatingWrites: this.#allocatingWrites,
      clusterSize: this.#clusters.blockSize,
      clusters: this.#clusters.count(),
      endOffset: this.#endOffset,
      unwrittenReadBytes: this.#unwrittenReadBytes,
    };
  }
}

/** Of reads, or of writes. */
class OpCounts {
  count = 0;
  bytes = 0;
  readonly sizes = new Float64Array(POWERS);
  readonly alignments = new Float64Array(POWERS);

  add(offset: number, length: number): void {
    this.count++;
    this.bytes += length;
    const size = length < 2 ** 31 ? 31 - Math.clz32(length) : Math.floor(Math.log2(length));
    this.sizes[size] = (this.sizes[size] ?? 0) + 1;
    const alignment = Math.min(trailingZeroes(offset), trailingZeroes(length));
    this.alignments[alignment] = (this.alignments[alignment] ?? 0) + 1;
  }
}

/** The power of two in a whole number; the most there is for 0. */
function trailingZeroes(value: number): number {
  if (value === 0) return POWERS - 1;
  // To 32 bits.
  const low = value | 0;
  if (low !== 0) return 31 - Math.clz32(low & -low);
  return 32 + trailingZeroes(value / 2 ** 32);
}

function powers(reads: Float64Array, writes: Float64Array): PowerCount[] {
  return Array.from({ length: POWERS }, (_, power) => ({
    bytes: 2 ** power,
    reads: reads[power] ?? 0,
    writes: writes[power] ?? 0,
  })).filter((count) => count.reads + count.writes > 0);
}
