/**
 * The snapshot table of an open image: what it holds, and replacing it by another.
 *
 * Invariants:
 * - A new table is durable before the header points to it; the old one is freed after that.
 * - No write overlaps other metadata, even if the refcounts of a damaged image are wrong.
 * - The caller holds the metadata lock.
 */

import { Qcow2BenchError } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import {
  encodeSnapshot,
  KNOWN_LENGTH,
  NO_SNAPSHOTS,
  snapshotLength,
  type Snapshot,
  type SnapshotTable,
} from './snapshot-table.ts';

/** Places that are tried for a new table. */
const PASSED_OVER_MAX = 4096;
/** Snapshots whose entries are written piece by piece; no disk in use has so many. */
const WRITTEN_SINGLY_MAX = 4096;

/** A table in the file to which the header does not point yet. */
interface NewTable {
  readonly snapshots: readonly Snapshot[];
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

export class StoredSnapshots {
  /** As it was read or last written; a check puts what it found here. */
  table: SnapshotTable;
  readonly #core: ImageCore;
  /**
   * The image is open for a check, which reads the table itself: refcounts and the header may be
   * wrong.
   */
  readonly #isForCheck: boolean;

  /** @param table left out where the image is opened for a check */
  constructor(core: ImageCore, table: SnapshotTable | undefined) {
    this.#core = core;
    this.#isForCheck = table === undefined;
    this.table = table ?? NO_SNAPSHOTS;
  }

  /** Puts a new table beside the old one, points the header to it, then frees the old one. */
  async replace(snapshots: readonly Snapshot[]): Promise<void> {
    await this.switchTo(await this.write(snapshots));
  }

  /**
   * Writes a new table beside the old one. `switchTo` has to follow, before any other change. A
   * failure leaves the image as it was.
   */
  async write(snapshots: readonly Snapshot[]): Promise<NewTable> {
    const { header } = this.#core;
    const length = snapshots.reduce((sum, snapshot) => sum + snapshotLength(snapshot), 0);
    if (length > LIMITS.snapshotTableBytes) {
      throw new Qcow2BenchError(
        'snapshot-table-full',
        'the snapshot table would exceed 64 MiB: delete a snapshot',
        { path: header.device.path },
      );
    }
    const offset = await this.#allocateClear(length);
    try {
      await this.#core.flush('snapshot');
      await this.#guardNew(offset, length);
      await this.#writeEntries(snapshots, { offset, length });
      await this.#core.flush('snapshot');
    } catch (error) {
      await this.#freeUnused(offset, length);
      throw error;
    }
    return { snapshots, offset, length };
  }

  /**
   * Points the header to a table that was written, then frees the old one. After a failure either
   * may be the image's: a write that failed may have reached the file.
   */
  async switchTo({ snapshots, offset, length }: NewTable): Promise<void> {
    const { header, refcounts, metadata } = this.#core;
    const { broken } = this.table;
    const old = { offset: header.values.snapshotsOffset, length: this.table.byteLength };
    await header.moveSnapshotTable(offset, snapshots.length);
    this.table = { ...NO_SNAPSHOTS, snapshots, byteLength: length };
    if (old.length > 0) metadata.remove(old.offset, old.length, 'snapshot-table');
    if (length > 0) metadata.add(offset, length, 'snapshot-table');
    await header.device.sync('snapshot');
    // The old table still names the snapshots that a repair removes: its bytes stay in the file.
    const freed = broken.length > 0 ? 'keep' : 'discard';
    if (await this.#isCounted(old.offset)) await refcounts.free(old.offset, old.length, freed);
  }

  /**
   * Piece by piece, as QEMU does; but in one piece where those of a damaged header's snapshots
   * would take a second.
   */
  async #writeEntries(
    snapshots: readonly Snapshot[],
    place: { readonly offset: number; readonly length: number },
  ): Promise<void> {
    const { device } = this.#core.header;
    const whole = snapshots.length > WRITTEN_SINGLY_MAX ? allocatePages(place.length) : undefined;
    const room = whole === undefined ? undefined : new Uint8Array(KNOWN_LENGTH);
    let at = 0;
    for (const snapshot of snapshots) {
      let within = at;
      for (const part of encodeSnapshot(snapshot, room)) {
        if (whole === undefined) await device.write(place.offset + within, part, 'snapshot-table');
        else whole.set(part, within);
        within += part.byteLength;
      }
      at += snapshotLength(snapshot);
    }
    if (whole !== undefined) await device.write(place.offset, whole, 'snapshot-table');
  }

  /**
   * What a damaged header calls the table need not be counted: refcounts for it would make the file
   * as long as it says.
   */
  async #isCounted(offset: number): Promise<boolean> {
    const { refcounts, geometry } = this.#core;
    return !this.#isForCheck || (await refcounts.get(Math.floor(offset / geometry.clusterSize))) > 0;
  }

  /** Writes an L1 table where nothing was; returns its offset. A failure takes no space. */
  async writeL1(bytes: Uint8Array): Promise<number> {
    const offset = await this.#allocate(bytes.byteLength);
    try {
      await this.#guardNew(offset, bytes.byteLength);
      if (bytes.byteLength > 0) await this.#core.header.device.write(offset, bytes, 'l1-table');
    } catch (error) {
      await this.#freeUnused(offset, bytes.byteLength);
      throw error;
    }
    return offset;
  }

  /** Of a table that nothing leads to. In an image that was found corrupt nothing changes any more. */
  async #freeUnused(offset: number, length: number): Promise<void> {
    const { header, refcounts } = this.#core;
    if (!header.isStopped) await refcounts.free(offset, length, 'keep');
  }

  async #allocate(length: number): Promise<number> {
    const { refcounts, geometry } = this.#core;
    const clusters = Math.ceil(length / geometry.clusterSize);
    // Nothing has a place too: where the next search would begin.
    if (clusters === 0) return (await refcounts.findFree(0)) * geometry.clusterSize;
    return refcounts.allocate(clusters);
  }

  /**
   * As `allocate`; in a check, clusters where a table is said to be that could not be counted are
   * passed over.
   */
  async #allocateClear(length: number): Promise<number> {
    const { metadata, refcounts } = this.#core;
    const passedOver: number[] = [];
    let offset = await this.#allocate(length);
    while (
      this.#isForCheck &&
      passedOver.length < PASSED_OVER_MAX &&
      metadata.overlap(offset, length, undefined) !== undefined
    ) {
      passedOver.push(offset);
      offset = await this.#allocate(length);
    }
    for (const each of passedOver) await refcounts.free(each, length, 'keep');
    return offset;
  }

  /** Where refcounts are wrong, a cluster that is called free may hold metadata. */
  async #guardNew(offset: number, length: number): Promise<void> {
    if (length === 0) return;
    const { metadata, header } = this.#core;
    const kind = metadata.overlap(offset, length, undefined);
    if (kind !== undefined) {
      await header.markCorruptAt(`a snapshot's table would overwrite the ${kind}`, offset);
    }
  }
}
