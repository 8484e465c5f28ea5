/**
 * Finding what a guest range is: the longest run of clusters of one kind that one host operation
 * can serve, cut where QEMU cuts it, so that a request splits into the same operations.
 *
 * Invariants: a run never leaves one second-level table; clusters of a `data` run follow one
 * another in the host file. The answer is in the finder's own fields, so that finding allocates
 * nothing: it holds until the next `find`, and must be taken before anything is awaited.
 */

import { emptyWordsEnd, readU64le } from '../../core/bytes.ts';
import { ceilDiv } from '../../core/alignment.ts';
import { assertInvariant, hex, Qcow2BenchError } from '../../core/error.ts';
import type { GuestOffset } from '../../core/offsets.ts';
import type { Pending } from '../../core/pending.ts';
import { ENTRY_SIZE, type QedGeometry } from './geometry.ts';
import type { HostSpace } from './host-space.ts';
import { ENTRY_UNALLOCATED, ENTRY_ZERO, type L2Table, type QedTables } from './tables.ts';

/** Clusters that are gone through one by one. */
const FEW_CLUSTERS = 64;

export type ClusterKind =
  /** In the file, at `hostOffset`. */
  | 'data'
  /** A zero cluster. */
  | 'zero'
  /** The second-level table has no entry for it. */
  | 'unallocated'
  /** There is no second-level table yet. */
  | 'no-table';

export interface ClusterRunOptions {
  readonly path: string;
  readonly geometry: QedGeometry;
  readonly space: HostSpace;
  readonly tables: QedTables;
}

export class ClusterRun {
  kind: ClusterKind = 'no-table';
  /** Guest bytes, from the asked offset, that are of this kind; at most what was asked for. */
  length = 0;
  /** Where the asked guest offset is in the file; only for `data`. */
  hostOffset = 0;
  /** The table is on its way to the file: what it says may yet be taken back. */
  unsettled = false;
  readonly #options: ClusterRunOptions;

  constructor(options: ClusterRunOptions) {
    this.#options = options;
  }

  /**
   * Finds the run that begins at `guestOffset`. A promise means that a table is being read: wait,
   * and find again.
   *
   * @throws Qcow2BenchError `qed-bad-table-offset` or `qed-bad-cluster-offset` for entries that
   *   lead nowhere.
   */
  find(guestOffset: GuestOffset, length: number): Pending {
    const { geometry, tables } = this.#options;
    const { bytesPerL2Table, clusterSize } = geometry;
    const l1Index = Math.floor(guestOffset / bytesPerL2Table);
    const offsetInTable = guestOffset - l1Index * bytesPerL2Table;
    const lengthMax = Math.min(length, bytesPerL2Table - offsetInTable);
    if (tables.l1Entry(l1Index) === ENTRY_UNALLOCATED) {
      this.kind = 'no-table';
      this.unsettled = false;
      this.length = lengthMax;
      return undefined;
    }
    let table = tables.cached(l1Index);
    if (table === undefined) {
      const loading = tables.load(l1Index);
      if (loading !== undefined) return loading;
      table = tables.cached(l1Index);
      assertInvariant(table !== undefined, 'a table read at once is in the cache');
    }
    const index = Math.floor(offsetInTable / clusterSize);
    const offsetInCluster = offsetInTable - index * clusterSize;
    const entry = readU64le(table.view, index * ENTRY_SIZE);
    this.kind = this.#kindOf(entry, table, index);
    this.unsettled = table.writing;
    const step = this.kind === 'data' ? clusterSize : 0;
    const clustersMax = ceilDiv(offsetInCluster + lengthMax, clusterSize);
    let clusters = 1;
    let expected = (entry ?? 0) + step;
    // A sparse table is gone through at once.
    if (this.kind === 'unallocated' && clustersMax > FEW_CLUSTERS) {
      clusters = emptyWordsEnd(table.view, index + 1, index + clustersMax) - index;
    }
    // Entries past the file's end are left for a `find` of their own, which refuses them.
    const hostEnd = this.#options.space.end;
    while (
      clusters < clustersMax &&
      expected < hostEnd &&
      readU64le(table.view, (index + clusters) * ENTRY_SIZE) === expected
    ) {
      clusters++;
      expected += step;
    }
    this.length = Math.min(lengthMax, clusters * clusterSize - offsetInCluster);
    this.hostOffset = (entry ?? 0) + offsetInCluster;
    return undefined;
  }

  #kindOf(entry: number | undefined, table: L2Table, index: number): ClusterKind {
    if (entry === ENTRY_UNALLOCATED) return 'unallocated';
    if (entry === ENTRY_ZERO) return 'zero';
    const { path, space } = this.#options;
    if (entry !== undefined && space.holdsCluster(entry)) return 'data';
    throw new Qcow2BenchError(
      'qed-bad-cluster-offset',
      `second-level entry ${String(index)} is ${entry === undefined ? '2^53 or more' : hex(entry)}: it must point to a data cluster within the file (which ends at ${hex(space.end)}); repair the image with check --repair all`,
      { path, offset: table.hostOffset + index * ENTRY_SIZE },
    );
  }
}
