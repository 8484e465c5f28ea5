/**
 * The refcount table: where the block with the refcounts of each range of host clusters is.
 *
 * Invariants: entries in memory equal those in the file; the metadata map knows the table and every
 * block.
 */

import { isAligned } from '../../../core/alignment.ts';
import { Qcow2BenchError, hex } from '../../../core/error.ts';
import { emptyWordsEnd, viewOf, writeU64be } from '../../../core/bytes.ts';
import type { HostOffset } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import type { Geometry } from '../on-disk/geometry.ts';
import type { HeaderStore } from './header-store.ts';
import { ENTRY_SIZE, LOW, TWO_32 } from '../on-disk/layout.ts';
import type { MetadataMap } from './metadata-map.ts';

/**
 * The largest number that keeps bit 9, so that an offset that is not aligned never looks as if it
 * were.
 */
const UNALIGNED_MAX = 2 ** 62 - 512;

export class RefcountTable {
  readonly #header: HeaderStore;
  readonly #geometry: Geometry;
  readonly #metadata: MetadataMap;
  /** Host offset of each refcount block; 0 where there is none. */
  #blocks: Float64Array;
  /** Indices of entries whose low bits, which must be zero, are not. */
  #reserved: ReadonlySet<number>;

  private constructor(
    header: HeaderStore,
    geometry: Geometry,
    metadata: MetadataMap,
    loaded: { readonly blocks: Float64Array; readonly reserved: ReadonlySet<number> },
  ) {
    this.#header = header;
    this.#geometry = geometry;
    this.#metadata = metadata;
    this.#blocks = loaded.blocks;
    this.#reserved = loaded.reserved;
  }

  /** Reads the table that the header points to. */
  static async load(header: HeaderStore, geometry: Geometry, metadata: MetadataMap): Promise<RefcountTable> {
    const { refcountTableOffset: offset, refcountTableClusters } = header.values;
    const length = refcountTableClusters * geometry.clusterSize;
    const bytes = allocatePages(Math.max(1, length)).subarray(0, length);
    // Only an image that is opened for a check may have its table past the end of the file: it
    // reads as zeroes.
    if (length > 0 && offset < header.device.size()) {
      await header.device.read(offset, bytes, 'refcount-table');
    }
    const view = viewOf(bytes);
    const blocks = new Float64Array(bytes.byteLength / ENTRY_SIZE);
    const reserved = new Set<number>();
    metadata.add(offset, bytes.byteLength, 'refcount-table');
    for (let index = 0; index < blocks.length; index++) {
      index = emptyWordsEnd(view, index, blocks.length);
      if (index === blocks.length) break;
      const low = view.getUint32(index * ENTRY_SIZE + 4);
      // Unlike those of L1 and L2 entries, bits 56 to 63 belong to the offset.
      const lowOffset = (low & LOW.offset) >>> 0;
      const sum = view.getUint32(index * ENTRY_SIZE) * TWO_32 + lowOffset;
      const block = isAligned(lowOffset, geometry.clusterSize) ? sum : Math.min(sum, UNALIGNED_MAX);
      blocks[index] = block;
      if ((low & ~LOW.offset) !== 0) reserved.add(index);
      if (isPlace(block, geometry)) {
        metadata.add(block, geometry.clusterSize, 'refcount-block');
      }
    }
    return new RefcountTable(header, geometry, metadata, { blocks, reserved });
  }

  /** How many blocks the table has room for. */
  get entries(): number {
    return this.#blocks.length;
  }

  get offset(): HostOffset {
    return this.#header.values.refcountTableOffset;
  }

  get byteLength(): number {
    return this.#blocks.length * ENTRY_SIZE;
  }

  /** Host offset of block `index`; 0 if there is none, also past the end of the table. */
  blockOffset(index: number): HostOffset {
    return this.#blocks[index] ?? 0;
  }

  /** The first index from `first` on whose entry is not empty; the number of entries if all are. */
  nextEntry(first: number): number {
    const blocks = this.#blocks;
    const reserved = this.#reserved;
    let index = first;
    while (blocks[index] === 0 && (reserved.size === 0 || !reserved.has(index))) index++;
    return index;
  }

  /** Whether bits of the entry are set that must be zero. */
  hasReservedBits(index: number): boolean {
    return this.#reserved.has(index);
  }

  /** Whether a block can be where the entry says, or there is none. */
  isSound(index: number): boolean {
    const offset = this.blockOffset(index);
    return isAligned(offset, this.#geometry.clusterSize) && Number.isSafeInteger(offset);
  }

  /**
   * As `blockOffset`; an offset that is not aligned stops the image, one above 2^53 − 1 is refused.
   */
  checkedBlockOffset(index: number): HostOffset | Promise<never> {
    return this.isSound(index) ? this.blockOffset(index) : this.#stop(index);
  }

  #stop(index: number): Promise<never> {
    const offset = this.blockOffset(index);
    const place = { path: this.#header.device.path, offset: this.offset + index * ENTRY_SIZE };
    const what = `refcount table entry ${String(index)} points to ${hex(offset)}`;
    if (isAligned(offset, this.#geometry.clusterSize)) {
      throw new Qcow2BenchError('qcow2-offset-too-large', `${what}, above 2^53 − 1`, place);
    }
    const message = `${what}, which is not a multiple of the cluster size`;
    return this.#header.markCorrupt(new Qcow2BenchError('qcow2-unaligned-refcount-block', message, place));
  }

  /** All entries, for a scan of the image. */
  blockOffsets(): Float64Array {
    return this.#blocks.slice();
  }

  /**
   * Hooks a block into the table, in the file, in memory, and then durably: after a failed sync the
   * file has it.
   */
  async setBlock(index: number, blockOffset: HostOffset): Promise<void> {
    const entry = allocatePages(ENTRY_SIZE);
    writeU64be(viewOf(entry), 0, blockOffset);
    await this.#header.device.write(this.offset + index * ENTRY_SIZE, entry, 'refcount-table');
    this.#blocks[index] = blockOffset;
    this.#metadata.add(blockOffset, this.#geometry.clusterSize, 'refcount-block');
    await this.#header.device.sync('refcount-growth');
  }

  /**
   * Writes the whole table without the blocks of `indexes`, durably; in memory they stay until
   * `forgetBlock`.
   */
  async writeWithout(indexes: readonly number[]): Promise<void> {
    const bytes = allocatePages(this.byteLength);
    const view = viewOf(bytes);
    for (const [index, offset] of this.#blocks.entries()) {
      if (!indexes.includes(index)) writeU64be(view, index * ENTRY_SIZE, offset);
    }
    await this.#header.device.write(this.offset, bytes, 'refcount-table');
    await this.#header.device.sync('snapshot');
  }

  forgetBlock(index: number): void {
    this.#metadata.remove(this.blockOffset(index), this.#geometry.clusterSize, 'refcount-block');
    this.#blocks[index] = 0;
  }

  /**
   * Writes `blocks` as a new table at `tableOffset` and makes the header point to it. The old
   * table's clusters stay allocated: the caller frees them.
   */
  async replace(
    blocks: Float64Array,
    tableOffset: HostOffset,
    cause: 'refcount-growth' | 'repair',
  ): Promise<void> {
    const { clusterSize } = this.#geometry;
    const bytes = allocatePages(blocks.length * ENTRY_SIZE);
    const view = viewOf(bytes);
    for (let index = 0; index < blocks.length; index++) {
      const offset = blocks[index] as number;
      if (offset !== 0) writeU64be(view, index * ENTRY_SIZE, offset);
    }
    await this.#header.device.write(tableOffset, bytes, 'refcount-table');
    // QEMU's repair has no sync here (repair-order): a crash could leave the header pointing to a
    // table that is not there.
    await this.#header.device.sync(cause);
    const old = { offset: this.offset, length: this.byteLength, blocks: this.#blocks };
    await this.#header.moveRefcountTable(tableOffset, bytes.byteLength / clusterSize);
    this.#blocks = blocks;
    this.#reserved = new Set();
    this.#metadata.remove(old.offset, old.length, 'refcount-table');
    for (const offset of old.blocks) {
      if (isPlace(offset, this.#geometry)) this.#metadata.remove(offset, clusterSize, 'refcount-block');
    }
    this.#metadata.add(tableOffset, bytes.byteLength, 'refcount-table');
    for (const offset of blocks) if (offset !== 0) this.#metadata.add(offset, clusterSize, 'refcount-block');
    await this.#header.device.sync(cause);
  }
}

/** Whether a block can be at `offset`; what cannot is no metadata that a write could damage. */
function isPlace(offset: HostOffset, { clusterSize }: Geometry): boolean {
  return offset !== 0 && offset % clusterSize === 0 && Number.isSafeInteger(offset);
}
