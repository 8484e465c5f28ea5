/**
 * Rebuilds refcount structures from counted references, where the stored ones cannot be repaired:
 * after a crash with lazy refcounts, clusters in use have refcount 0.
 *
 * Invariants: new blocks and the new table go to clusters that nothing references, and not where a
 * table may be that could not be counted. The old structures stay whole until the header points to
 * the new ones, and those are durable by then: every block, the table, a sync, the header's
 * pointer, a sync (docs/qemu-rules.md, `repair-order`).
 */

import { alignUp } from '../../../core/alignment.ts';
import { viewOf } from '../../../core/bytes.ts';
import { Qcow2BenchError } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import type { HostCluster } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import { ENTRY_SIZE } from '../on-disk/layout.ts';
import { refcountCodec } from '../on-disk/refcount-codec.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import type { ReferenceCounts } from './reference-count.ts';

/**
 * @returns whether a table was passed over that could not be counted: there QEMU gives up
 * @throws Qcow2BenchError `qcow2-refcount-table-full`, or whatever the file answers
 */
export async function rebuildRefcounts(core: ImageCore, counts: ReferenceCounts): Promise<boolean> {
  const build = new Rebuild(core, counts);
  await build.writeBlocks(0, Infinity);
  let table: { first: number; clusters: number };
  do {
    const clusters =
      build.tableEntries === 0 ? 1 : (build.tableEntries * ENTRY_SIZE) / core.geometry.clusterSize;
    table = { first: build.takeFree(clusters), clusters };
    // The table's own clusters have to be counted, which may need a further block, and that a
    // larger table.
  } while (await build.writeBlocks(table.first, table.first + table.clusters));
  await core.refcountTable.replace(build.blocks(), table.first * core.geometry.clusterSize, 'repair');
  return build.hasPassedOver;
}

class Rebuild {
  readonly #core: ImageCore;
  readonly #counts: ReferenceCounts;
  readonly #blocks: number[] = [];
  /** Room of the new table, in entries: whole clusters. */
  tableEntries = 0;
  hasPassedOver = false;
  #searchFrom = 0;

  constructor(core: ImageCore, counts: ReferenceCounts) {
    this.#core = core;
    this.#counts = counts;
  }

  blocks(): Float64Array {
    const blocks = new Float64Array(this.tableEntries);
    for (const [index, offset] of this.#blocks.entries()) blocks[index] = offset;
    return blocks;
  }

  /** Takes `count` contiguous clusters that nothing references; answers the first. */
  takeFree(count: number): number {
    this.#searchFrom = 0;
    return this.#take(count);
  }

  /**
   * Writes every block that describes a referenced cluster from `first` to `end`, giving it a
   * cluster if it has none.
   *
   * @returns whether the table has to be larger than before
   */
  async writeBlocks(first: number, end: number): Promise<boolean> {
    const { refcountBlockEntries, clusterSize } = this.#core.geometry;
    const entriesBefore = this.tableEntries;
    let limit = Math.min(end, this.#counts.end);
    let cluster = first;
    while (cluster < limit) {
      cluster = this.#counts.nextCounted(cluster, limit);
      if (cluster >= limit) break;
      if (this.#counts.get(cluster) === 0) {
        cluster++;
        continue;
      }
      const index = Math.floor(cluster / refcountBlockEntries);
      const start = index * refcountBlockEntries;
      if (this.#blocks[index] === undefined || this.#blocks[index] === 0) {
        // A cluster described by a block that is written already would make that block wrong.
        this.#searchFrom = Math.max(this.#searchFrom, start);
        const taken = this.#take(1);
        this.#growTable(index);
        this.#blocks[index] = taken * clusterSize;
        if (end === Infinity) limit = this.#counts.end;
        else if (taken >= start + refcountBlockEntries) limit = Math.max(limit, taken + 1);
      }
      await this.#writeBlock(index);
      cluster = start + refcountBlockEntries;
    }
    return this.tableEntries > entriesBefore;
  }

  async #writeBlock(index: number): Promise<void> {
    const { geometry, header } = this.#core;
    const codec = refcountCodec(geometry.refcountOrder);
    const bytes = allocatePages(geometry.clusterSize);
    const view = viewOf(bytes);
    const start = index * geometry.refcountBlockEntries;
    const used = Math.min(geometry.refcountBlockEntries, this.#counts.end - start);
    for (let entry = 0; entry < used; entry++) {
      const count = this.#counts.get(start + entry);
      if (count > 0) codec.set(view, entry, Math.min(count, geometry.refcountMax));
    }
    await header.device.write(this.#blocks[index] as number, bytes, 'refcount-block');
  }

  #take(count: number): number {
    let run = 0;
    while (run < count) run = this.#isFree(this.#searchFrom++) ? run + 1 : 0;
    const first = this.#searchFrom - count;
    for (let cluster = first; cluster < this.#searchFrom; cluster++) this.#counts.add(cluster);
    return first;
  }

  #isFree(cluster: HostCluster): boolean {
    const { metadata, geometry } = this.#core;
    if (this.#counts.get(cluster) > 0) return false;
    const isClear =
      metadata.overlap(cluster * geometry.clusterSize, geometry.clusterSize, undefined) === undefined;
    if (!isClear) this.hasPassedOver = true;
    return isClear;
  }

  #growTable(index: number): void {
    if (index < this.tableEntries) return;
    this.tableEntries = alignUp(index + 1, this.#core.geometry.clusterSize / ENTRY_SIZE);
    if (this.tableEntries * ENTRY_SIZE > LIMITS.refcountTableBytes) {
      throw new Qcow2BenchError('qcow2-refcount-table-full', 'the image needs a refcount table above 8 MiB', {
        path: this.#core.header.device.path,
      });
    }
    for (let blank = this.#blocks.length; blank < this.tableEntries; blank++) this.#blocks[blank] = 0;
  }
}
