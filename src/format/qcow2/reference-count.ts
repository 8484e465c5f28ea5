/**
 * Counts how often each host cluster is referenced, from the header down: what its refcount ought to be.
 *
 * Invariants: nothing is written; memory grows with the clusters that are referenced, not with what a
 * damaged entry claims.
 */

import { viewOf } from '../../core/bytes.ts';
import { hex } from '../../core/error.ts';
import { allocatePages } from '../../core/page-memory.ts';
import type { CheckFindings } from './check-findings.ts';
import type { Geometry } from './geometry.ts';
import type { HeaderStore } from './header-store.ts';
import { clusterTypeAt, compressedRangeAt, hostOffsetAt, isCopiedAt } from './l2-entry.ts';
import { ENTRY_SIZE, HIGH, LOW, TWO_32 } from './layout.ts';
import type { RefcountTable } from './refcount-table.ts';
import { readSnapshotTable } from './snapshot-table.ts';

const CHUNK = 65_536;

/** A sparse array of counters, one a host cluster. */
export class ReferenceCounts {
  readonly #chunks: (Uint32Array | undefined)[] = [];
  #end = 0;

  /** One past the highest cluster with a reference. */
  get end(): number {
    return this.#end;
  }

  get(cluster: number): number {
    return this.#chunks[Math.floor(cluster / CHUNK)]?.[cluster % CHUNK] ?? 0;
  }

  add(cluster: number): void {
    const chunk = (this.#chunks[Math.floor(cluster / CHUNK)] ??= new Uint32Array(CHUNK));
    chunk[cluster % CHUNK] = (chunk[cluster % CHUNK] as number) + 1;
    if (cluster >= this.#end) this.#end = cluster + 1;
  }
}

export interface ReferenceScan {
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  readonly table: RefcountTable;
  readonly findings: CheckFindings;
}

/** Host offset in an L1 entry, flags and reserved bits masked. */
export function l1EntryOffset(view: DataView, index: number): number {
  const high = view.getUint32(index * ENTRY_SIZE) & HIGH.offset;
  return high * TWO_32 + ((view.getUint32(index * ENTRY_SIZE + 4) & LOW.offset) >>> 0);
}

/** Counts the references of the whole image; what breaks a rule goes to the findings and is not counted. */
export async function countReferences(scan: ReferenceScan): Promise<ReferenceCounts> {
  const counts = new ReferenceCounts();
  const { header, geometry, table } = scan;
  const { clusterSize } = geometry;
  const { l1Offset, l1Entries, snapshotCount, snapshotsOffset } = header.values;
  const add = (offset: number, length: number): void => {
    addRange(scan, counts, offset, length);
  };

  add(0, clusterSize);
  await countL1(scan, counts, { offset: l1Offset, entries: l1Entries, isActive: true });
  if (snapshotCount > 0) {
    const { snapshots, byteLength } = await readSnapshotTable(header);
    for (const snapshot of snapshots) {
      await countL1(scan, counts, {
        offset: snapshot.l1Offset,
        entries: snapshot.l1Entries,
        isActive: false,
      });
    }
    add(snapshotsOffset, byteLength);
  }
  add(table.offset, table.byteLength);
  const fileClusters = Math.ceil(header.device.size() / clusterSize);
  for (const [index, offset] of table.blockOffsets().entries()) {
    if (offset === 0) continue;
    if (offset % clusterSize !== 0) {
      scan.findings.corruption(
        `ERROR refcount block ${String(index)} is not cluster aligned; refcount table entry corrupted`,
      );
      scan.findings.needsRebuild = true;
    } else if (offset / clusterSize >= fileClusters) {
      scan.findings.corruption(`ERROR refcount block ${String(index)} is outside image`);
      scan.findings.needsRebuild = true;
    } else {
      add(offset, clusterSize);
      if (counts.get(offset / clusterSize) !== 1) {
        scan.findings.corruption(
          `ERROR refcount block ${String(index)} refcount=${String(counts.get(offset / clusterSize))}`,
        );
        scan.findings.needsRebuild = true;
      }
    }
  }
  return counts;
}

interface L1Place {
  readonly offset: number;
  readonly entries: number;
  readonly isActive: boolean;
}

async function countL1(scan: ReferenceScan, counts: ReferenceCounts, l1: L1Place): Promise<void> {
  if (l1.entries === 0) return;
  const { clusterSize } = scan.geometry;
  addRange(scan, counts, l1.offset, l1.entries * ENTRY_SIZE);
  const bytes = allocatePages(l1.entries * ENTRY_SIZE);
  await scan.header.device.read(l1.offset, bytes, 'l1-table');
  const view = viewOf(bytes);
  const table = allocatePages(clusterSize);
  for (let index = 0; index < l1.entries; index++) {
    const offset = l1EntryOffset(view, index);
    if (offset === 0) continue;
    addRange(scan, counts, offset, clusterSize);
    if (offset % clusterSize !== 0) {
      scan.findings.corruption(
        `ERROR l2_offset=${hex(offset)}: Table is not cluster aligned; L1 entry corrupted`,
      );
      continue;
    }
    const pending = scan.header.device.read(offset, table, 'l2-table');
    if (pending !== undefined) await pending;
    countL2(scan, counts, table, l1.isActive);
  }
}

function countL2(
  scan: ReferenceScan,
  counts: ReferenceCounts,
  table: Uint8Array<ArrayBuffer>,
  isActive: boolean,
): void {
  const { geometry, findings } = scan;
  const { clusterSize } = geometry;
  const view = viewOf(table);
  findings.beginTable();
  for (let index = 0; index < geometry.l2Entries; index++) {
    const type = clusterTypeAt(view, index);
    switch (type) {
      case 'unallocated':
      case 'zero':
        break;
      case 'compressed': {
        const range = compressedRangeAt(view, index, geometry.clusterBits);
        if (isCopiedAt(view, index)) {
          findings.corruption(
            `ERROR: coffset=${hex(range.hostOffset)}: copied flag must never be set for compressed clusters`,
          );
        }
        if (isActive) findings.countCluster('compressed', range.hostOffset, clusterSize);
        addRange(scan, counts, range.hostOffset, range.length);
        break;
      }
      case 'zero-allocated':
      case 'normal': {
        const offset = hostOffsetAt(view, index);
        if (isActive) findings.countCluster('allocated', offset, clusterSize);
        if (offset % clusterSize !== 0) {
          findings.corruption(
            `ERROR offset=${hex(offset)}: Data cluster is not properly aligned; L2 entry corrupted.`,
          );
        }
        addRange(scan, counts, offset, clusterSize);
      }
    }
  }
}

function addRange(scan: ReferenceScan, counts: ReferenceCounts, offset: number, length: number): void {
  const { clusterSize } = scan.geometry;
  const first = Math.floor(offset / clusterSize);
  const last = Math.floor((offset + length - 1) / clusterSize);
  // A reference past the file's end would take memory for clusters that nobody can have written.
  const limit = Math.ceil(scan.header.device.size() / clusterSize) + scan.geometry.l2Entries;
  if (!Number.isSafeInteger(offset) || last > limit) {
    scan.findings.corruption(
      `ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset ${hex(offset)} size ${hex(length)}`,
    );
    return;
  }
  for (let cluster = first; cluster <= last; cluster++) counts.add(cluster);
}
