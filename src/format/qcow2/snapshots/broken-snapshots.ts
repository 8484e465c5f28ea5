/**
 * Snapshots whose L1 table cannot be where their entry says. The disk and the other snapshots do
 * not need that table, so the image is used without it: such a snapshot is listed, but not applied,
 * and a repair removes it.
 *
 * Invariants:
 * - Nothing is read from such a table, and no memory is taken for the size it claims.
 * - As in QEMU, no write lands where an entry claims a table: guest data there would become its
 *   tables.
 */

import { hex, Qcow2BenchError } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import { isCutOff } from '../on-disk/file-end.ts';
import type { HeaderStore } from '../metadata/header-store.ts';
import { ENTRY_SIZE, OFFSET_LIMIT } from '../on-disk/layout.ts';
import type { MetadataClaim, MetadataMap } from '../metadata/metadata-map.ts';
import type { Snapshot, SnapshotTable } from './snapshot-table.ts';

/** Why the L1 table of a snapshot cannot be used. */
export type L1Fault = 'unaligned' | 'too-long' | 'on-header' | 'unreadable' | 'past-end';

interface FileShape {
  readonly clusterSize: number;
  readonly fileSize: number;
}

/** What is wrong with where the L1 table of a snapshot is; nothing of the table is read. */
export function l1FaultOf(
  { stored, l1Offset, l1Entries }: Snapshot,
  { clusterSize, fileSize }: FileShape,
): L1Fault | undefined {
  const remainder =
    stored === undefined ? l1Offset % clusterSize : Number(stored.l1Offset % BigInt(clusterSize));
  const length = l1Entries * ENTRY_SIZE;
  if (remainder !== 0) return 'unaligned';
  if (length > LIMITS.l1TableBytes) return 'too-long';
  if (length === 0) return undefined;
  if (l1Offset === 0) return 'on-header';
  if (l1Offset >= OFFSET_LIMIT) return 'unreadable';
  return isCutOff({ offset: l1Offset, length }, fileSize) ? 'past-end' : undefined;
}

/** The fault in words, behind the name of the snapshot. */
export function l1FaultText({ l1Offset, l1Entries, stored }: Snapshot, fault: L1Fault): string {
  const start = `has an L1 table of ${String(l1Entries)} entries at ${hex(stored?.l1Offset ?? l1Offset)}`;
  switch (fault) {
    case 'unaligned':
      return `${start}, which is not a multiple of the cluster size`;
    case 'too-long':
      return `${start}, above 32 MiB`;
    case 'on-header':
      return `${start}, which is the header`;
    case 'unreadable':
      return `${start}, an unreadable offset`;
    case 'past-end':
      return `${start}, which extends past the end of the file`;
  }
}

export class BrokenSnapshots {
  readonly #header: HeaderStore;
  readonly #metadata: MetadataMap;
  /**
   * As of when the table was read. What an entry claims past the end stays broken when the file
   * grows over it.
   */
  #faults: ReadonlyMap<Snapshot, L1Fault> = new Map();

  constructor(header: HeaderStore, metadata: MetadataMap) {
    this.#header = header;
    this.#metadata = metadata;
  }

  /** Finds the broken ones among the snapshots of a table that was just read, and answers them. */
  find(snapshots: readonly Snapshot[]): readonly Snapshot[] {
    const { device, values } = this.#header;
    const shape = { clusterSize: 2 ** values.clusterBits, fileSize: device.size() };
    const faults = new Map<Snapshot, L1Fault>();
    for (const snapshot of snapshots) {
      const fault = l1FaultOf(snapshot, shape);
      if (fault !== undefined) faults.set(snapshot, fault);
    }
    this.#faults = faults;
    return [...faults.keys()];
  }

  faultOf(snapshot: Snapshot): L1Fault | undefined {
    return this.#faults.get(snapshot);
  }

  /**
   * Keeps writes away from what the broken ones among `snapshots` claim: ranges, which may be far
   * longer than the file.
   */
  claim(snapshots: readonly Snapshot[]): void {
    const broken = snapshots.filter((snapshot) => this.#faults.has(snapshot));
    this.#metadata.setClaims(broken.map(claimOf));
  }

  /**
   * Keeps the writes of a repair away from all that the entries of a table claim, and from the
   * table.
   */
  claimAll({ snapshots, incomplete, cut, dropped, broken, byteLength }: SnapshotTable): void {
    const { device, values } = this.#header;
    const { snapshotsOffset: hostOffset } = values;
    const bounded = snapshots.map(claimOf).filter(({ length }) => length <= LIMITS.l1TableBytes);
    // Of a table that is about to be replaced, what is past the end of the file need not stay free.
    const isReplaced = incomplete.length + cut.length + dropped + broken.length > 0;
    const length = isReplaced ? Math.min(byteLength, device.size() - hostOffset) : byteLength;
    this.#metadata.setClaims([...bounded, { hostOffset, length, kind: 'snapshot-table' }]);
  }

  /** @throws Qcow2BenchError `snapshot-broken` unless the snapshot can be gone back to */
  refuseToApply(snapshot: Snapshot): void {
    const fault = this.#faults.get(snapshot);
    if (fault !== undefined) throw this.#error(snapshot, l1FaultText(snapshot, fault));
    if (Number.isSafeInteger(snapshot.diskSize)) return;
    throw this.#error(snapshot, 'has a disk size above 2^53 − 1 bytes');
  }

  /** @throws Qcow2BenchError `snapshot-broken` if the entry cannot go alone, as QEMU refuses */
  refuseToDelete(snapshot: Snapshot): void {
    const fault = this.#faults.get(snapshot);
    if (fault === undefined || fault === 'past-end') return;
    throw this.#error(snapshot, l1FaultText(snapshot, fault));
  }

  #error({ id, name }: Snapshot, what: string): Qcow2BenchError {
    const message = `snapshot ${id} '${name}' ${what}: its data cannot be read; check --repair all removes it`;
    return new Qcow2BenchError('snapshot-broken', message, { path: this.#header.device.path });
  }
}

function claimOf({ l1Offset, l1Entries }: Snapshot): MetadataClaim {
  return { hostOffset: l1Offset, length: l1Entries * ENTRY_SIZE, kind: 'l1-table' };
}
