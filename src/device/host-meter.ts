/**
 * The counts of host operations: operations and bytes by purpose, syncs by cause, for each phase.
 *
 * Invariants:
 * - An operation is counted when it is issued.
 * - A merged write is one operation, under the purpose of `mergedPurpose`; its bytes are split by
 *   part.
 * - A truncate moves no bytes. An elided sync is not an operation; it is counted separately.
 * - Counting takes no memory: all counters are in three arrays made at the start.
 */

import type { WritePart } from './block-device.ts';
import { mergedPurpose } from './merged-write.ts';
import { PHASES, type Phase, type PhaseSource } from './operation.ts';
import { PURPOSES, SYNC_CAUSES, type Purpose, type SyncCause } from './purpose.ts';

export interface PurposeCounts {
  readonly ops: number;
  readonly bytes: number;
}

/** Operations of one kind. `byPurpose` holds only the purposes that occurred. */
export interface OperationCounts extends PurposeCounts {
  readonly byPurpose: Readonly<Partial<Record<Purpose, PurposeCounts>>>;
}

export interface SyncCounts {
  /** Syncs issued. */
  readonly ops: number;
  /** Syncs asked for and not issued, because nothing was written since the last. */
  readonly elided: number;
  /** Of those issued; only the causes that occurred. */
  readonly byCause: Readonly<Partial<Record<SyncCause, number>>>;
}

/** What happened in one phase, in the shape of the result file. */
export interface HostCounts {
  readonly writes: OperationCounts;
  readonly zeroRanges: OperationCounts;
  readonly punchHoles: OperationCounts;
  readonly truncates: OperationCounts;
  readonly reads: OperationCounts;
  readonly syncs: SyncCounts;
}

/** Operations that have a purpose, with their row in the counters. */
const ROWS = { write: 0, 'zero-range': 1, 'punch-hole': 2, truncate: 3, read: 4 } as const;
export type CountedOp = keyof typeof ROWS;
const ROW_COUNT = 5;

const PHASE_CELLS = ROW_COUNT * PURPOSES.length;

/**
 * One meter serves all files of an image: the image itself, its data file and its backing files.
 */
export class HostMeter implements PhaseSource {
  // Doubles hold counts and bytes exactly up to 2^53.
  readonly #ops = new Float64Array(PHASES.length * PHASE_CELLS);
  readonly #bytes = new Float64Array(PHASES.length * PHASE_CELLS);
  readonly #syncs = new Float64Array(PHASES.length * SYNC_CAUSES.length);
  readonly #elided = new Float64Array(PHASES.length);
  #phase: Phase = 'open';
  #phaseIndex = 0;

  get phase(): Phase {
    return this.#phase;
  }

  /** Counts from now on under `phase`; a meter begins in `open`. */
  enterPhase(phase: Phase): void {
    this.#phase = phase;
    this.#phaseIndex = PHASES.indexOf(phase);
  }

  count(op: CountedOp, purpose: Purpose, bytes: number): void {
    const cell = this.#cell(op, purpose);
    this.#ops[cell] = (this.#ops[cell] ?? 0) + 1;
    this.#bytes[cell] = (this.#bytes[cell] ?? 0) + bytes;
  }

  countMerged(parts: readonly WritePart[]): void {
    const counted = this.#cell('write', mergedPurpose(parts));
    this.#ops[counted] = (this.#ops[counted] ?? 0) + 1;
    for (const part of parts) {
      const cell = this.#cell('write', part.purpose);
      this.#bytes[cell] = (this.#bytes[cell] ?? 0) + part.bytes.byteLength;
    }
  }

  /**
   * As `countMerged`, of a write that is known only by its record: purpose and bytes of each part.
   */
  countParts(purpose: Purpose, parts: readonly (readonly [Purpose, number])[]): void {
    const counted = this.#cell('write', purpose);
    this.#ops[counted] = (this.#ops[counted] ?? 0) + 1;
    for (const [part, bytes] of parts) {
      const cell = this.#cell('write', part);
      this.#bytes[cell] = (this.#bytes[cell] ?? 0) + bytes;
    }
  }

  countSync(cause: SyncCause): void {
    const cell = this.#phaseIndex * SYNC_CAUSES.length + indexIn(SYNC_CAUSES, cause);
    this.#syncs[cell] = (this.#syncs[cell] ?? 0) + 1;
  }

  countElided(): void {
    this.#elided[this.#phaseIndex] = (this.#elided[this.#phaseIndex] ?? 0) + 1;
  }

  /** A fresh plain object with the counts of one phase so far. */
  counts(phase: Phase): HostCounts {
    const phaseIndex = PHASES.indexOf(phase);
    return {
      writes: this.#operations(phaseIndex, 'write'),
      zeroRanges: this.#operations(phaseIndex, 'zero-range'),
      punchHoles: this.#operations(phaseIndex, 'punch-hole'),
      truncates: this.#operations(phaseIndex, 'truncate'),
      reads: this.#operations(phaseIndex, 'read'),
      syncs: this.#syncCounts(phaseIndex),
    };
  }

  #cell(op: CountedOp, purpose: Purpose): number {
    const row = this.#phaseIndex * ROW_COUNT + ROWS[op];
    return row * PURPOSES.length + indexIn(PURPOSES, purpose);
  }

  #operations(phaseIndex: number, op: CountedOp): OperationCounts {
    const first = (phaseIndex * ROW_COUNT + ROWS[op]) * PURPOSES.length;
    const byPurpose: Partial<Record<Purpose, PurposeCounts>> = {};
    let totalOps = 0;
    let totalBytes = 0;
    for (const [index, purpose] of PURPOSES.entries()) {
      const ops = this.#ops[first + index] ?? 0;
      const bytes = this.#bytes[first + index] ?? 0;
      if (ops === 0 && bytes === 0) continue;
      byPurpose[purpose] = { ops, bytes };
      totalOps += ops;
      totalBytes += bytes;
    }
    return { ops: totalOps, bytes: totalBytes, byPurpose };
  }

  #syncCounts(phaseIndex: number): SyncCounts {
    const byCause: Partial<Record<SyncCause, number>> = {};
    let ops = 0;
    for (const [index, cause] of SYNC_CAUSES.entries()) {
      const count = this.#syncs[phaseIndex * SYNC_CAUSES.length + index] ?? 0;
      if (count === 0) continue;
      byCause[cause] = count;
      ops += count;
    }
    return { ops, elided: this.#elided[phaseIndex] ?? 0, byCause };
  }
}

/** By comparing pointers: half the time of a look-up in a map. */
function indexIn<T extends string>(names: readonly T[], name: T): number {
  let index = 0;
  while (names[index] !== name) index++;
  return index;
}
