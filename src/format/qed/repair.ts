/**
 * What opening an image with the need-check bit set has to do: read every table, clear entries that
 * lead nowhere, and clear the bit. This scan is the price of not syncing tables while the image was
 * in use.
 *
 * An interrupted write can leave an entry that points past the file's end (the table reached the
 * disk, the data did not); the guest never had that write acknowledged as durable, so the entry
 * becomes unallocated.
 *
 * Invariants:
 * - The bit is cleared only after everything repaired is durable, and only if nothing is left that
 *   could not be.
 * - Memory grows with the clusters found in use, not with the length the file claims.
 */

import { emptyWordsEnd, readU64le, writeU64le } from '../../core/bytes.ts';
import { assertInvariant, hex, Qcow2BenchError } from '../../core/error.ts';
import type { HostOffset } from '../../core/offsets.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { ClaimedClusters } from './claimed-clusters.ts';
import { ENTRY_SIZE, type QedGeometry } from './geometry.ts';
import type { QedHeaderFile } from './header-file.ts';
import type { HostSpace } from './host-space.ts';
import { ENTRY_UNALLOCATED, ENTRY_ZERO, type L2Table, type QedTables } from './tables.ts';

export interface RepairOptions {
  readonly device: BlockDevice;
  readonly geometry: QedGeometry;
  readonly space: HostSpace;
  readonly tables: QedTables;
  readonly header: QedHeaderFile;
  readonly l1Offset: number;
}

/**
 * Scans, repairs and marks the image clean.
 *
 * @returns how many entries were cleared.
 * @throws Qcow2BenchError `qed-cross-linked` if two entries claim one cluster: no scan can
 *   determine the owner.
 */
export async function repairQed(options: RepairOptions): Promise<number> {
  const { geometry, space, tables, device, header } = options;
  const claims = new ClusterClaims(options);
  claims.claim(options.l1Offset, geometry.tableClusters);
  let clearedL1 = 0;
  let clearedL2 = 0;
  for (let l1Index = 0; l1Index < geometry.entriesPerTable; l1Index++) {
    l1Index = tables.nextL1Entry(l1Index);
    if (l1Index === geometry.entriesPerTable) break;
    const hostOffset = tables.l1Entry(l1Index);
    if (hostOffset === undefined || !space.holdsTable(hostOffset)) {
      tables.setL1Entry(l1Index, ENTRY_UNALLOCATED);
      clearedL1++;
      continue;
    }
    claims.claim(hostOffset, geometry.tableClusters);
    await tables.load(l1Index);
    const table = tables.cached(l1Index);
    assertInvariant(table !== undefined, 'a table read while nothing else runs is in the cache');
    const cleared = scanTable(table, options, claims);
    if (cleared > 0) await tables.writeTable(table);
    clearedL2 += cleared;
  }
  if (clearedL1 > 0) await tables.writeL1();
  await device.sync('repair');
  await header.rewriteFields(false);
  return clearedL1 + clearedL2;
}

function scanTable(table: L2Table, options: RepairOptions, claims: ClusterClaims): number {
  const { geometry, space } = options;
  let cleared = 0;
  const { entriesPerTable } = geometry;
  for (let index = 0; index < entriesPerTable; index++) {
    index = emptyWordsEnd(table.view, index, entriesPerTable);
    if (index === entriesPerTable) break;
    const entry = readU64le(table.view, index * ENTRY_SIZE);
    if (entry === ENTRY_ZERO) continue;
    if (entry !== undefined && space.holdsCluster(entry)) {
      claims.claim(entry, 1);
      continue;
    }
    writeU64le(table.view, index * ENTRY_SIZE, ENTRY_UNALLOCATED);
    cleared++;
  }
  return cleared;
}

/** Which clusters of the file are spoken for. */
class ClusterClaims {
  readonly #taken = new ClaimedClusters();
  readonly #clusterSize: number;
  readonly #path: string;

  constructor(options: RepairOptions) {
    this.#clusterSize = options.geometry.clusterSize;
    this.#path = options.device.path;
  }

  claim(hostOffset: HostOffset, clusters: number): void {
    for (let n = 0; n < clusters; n++) {
      const cluster = hostOffset / this.#clusterSize + n;
      if (!this.#taken.claim(cluster)) {
        throw new Qcow2BenchError(
          'qed-cross-linked',
          `two table entries claim the cluster at ${hex(cluster * this.#clusterSize)}: the repair at open cannot resolve this; run check --repair all, or open it read-only and copy the data`,
          { path: this.#path, offset: cluster * this.#clusterSize },
        );
      }
    }
  }
}
