/**
 * What a trace holds, in figures: counts, bytes, sizes, alignment, footprint, and how much of the
 * writing allocates.
 *
 * Invariants: one pass, and memory that does not grow with the trace: sizes and alignments are
 * counted by powers of two, touched blocks in maps of at most 32 MiB each.
 */

import type { Request, RequestOp } from '../request.ts';
import { ReadFill } from '../read-fill.ts';
import { BlockMap } from './block-map.ts';
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
  /** By time, and by number: of a trace without times the second says more. */
  readonly byTime = new RequestGrid();
  readonly byNumber = new RequestGrid();

  readonly #touched = new BlockMap(FOOTPRINT_BLOCK);
  readonly #written = new BlockMap(FOOTPRINT_BLOCK);
  readonly #clusters: BlockMap;
  readonly #reads = new ReadFill();
  readonly #counts: Record<RequestOp, number> = {
    read: 0,
    write: 0,
    flush: 0,
    discard: 0,
    'write-zeroes': 0,
  };
  readonly #bytes: Record<RequestOp, number> = { read: 0, write: 0, flush: 0, discard: 0, 'write-zeroes': 0 };
  readonly #sizes = { read: new Float64Array(POWERS), write: new Float64Array(POWERS) };
  readonly #alignments = { read: new Float64Array(POWERS), write: new Float64Array(POWERS) };
  #requests = 0;
  #fuaWrites = 0;
  #allocatingWrites = 0;
  #firstNs: number | undefined;
  #lastNs = 0;
  #endOffset = 0;

  /** @param clusterSize bytes: a power of two. */
  constructor(clusterSize: number) {
    this.#clusters = new BlockMap(clusterSize);
  }

  add(request: Request): void {
    this.#reads.add(request);
    const { op, offset, length, timeNs } = request;
    this.#firstNs ??= timeNs;
    this.#lastNs = timeNs;
    this.byTime.add(request, timeNs - this.#firstNs);
    this.byNumber.add(request, this.#requests);
    this.#requests++;
    this.#counts[op]++;
    if (op === 'flush') return;
    this.#bytes[op] += length;
    this.#endOffset = Math.max(this.#endOffset, offset + length);
    if (op === 'discard') return;
    this.#touched.add(offset, length);
    if (op !== 'read' && op !== 'write') return;
    count(this.#sizes[op], Math.floor(Math.log2(length)));
    count(this.#alignments[op], Math.min(trailingZeroes(offset), trailingZeroes(length)));
    if (op === 'read') return;
    if (request.fua) this.#fuaWrites++;
    this.#written.add(offset, length);
    if (this.#clusters.add(offset, length)) this.#allocatingWrites++;
  }

  figures(): TraceFigures {
    const counts = this.#counts;
    const bytes = this.#bytes;
    const touched = this.#touched;
    return {
      requests: this.#requests,
      reads: counts.read,
      writes: counts.write,
      flushes: counts.flush,
      discards: counts.discard,
      writeZeroes: counts['write-zeroes'],
      fuaWrites: this.#fuaWrites,
      bytes: bytes.read + bytes.write,
      readBytes: bytes.read,
      writeBytes: bytes.write,
      discardBytes: bytes.discard,
      writeZeroesBytes: bytes['write-zeroes'],
      durationNs: this.#lastNs - (this.#firstNs ?? 0),
      sizes: powers(this.#sizes),
      alignments: powers(this.#alignments),
      footprintBytes: touched.count() * touched.blockSize,
      writtenBytes: this.#written.count() * this.#written.blockSize,
      footprintBlock: Math.max(touched.blockSize, this.#written.blockSize),
      allocatingWrites: this.#allocatingWrites,
      clusterSize: this.#clusters.blockSize,
      clusters: this.#clusters.count(),
      endOffset: this.#endOffset,
      unwrittenReadBytes: this.#reads.unwrittenReadBytes,
    };
  }
}

function count(counts: Float64Array, power: number): void {
  counts[power] = (counts[power] ?? 0) + 1;
}

/** The power of two in a whole number; the most there is for 0. */
function trailingZeroes(value: number): number {
  if (value === 0) return POWERS - 1;
  const low = value % 2 ** 32;
  if (low !== 0) return 31 - Math.clz32(low & -low);
  return 32 + trailingZeroes(value / 2 ** 32);
}

function powers({
  read,
  write,
}: {
  readonly read: Float64Array;
  readonly write: Float64Array;
}): PowerCount[] {
  return Array.from({ length: POWERS }, (_, power) => ({
    bytes: 2 ** power,
    reads: read[power] ?? 0,
    writes: write[power] ?? 0,
  })).filter(({ reads, writes }) => reads + writes > 0);
}
