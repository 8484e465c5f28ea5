/**
 * Persistent dirty bitmaps of an image that is open for writing: in memory while it is open, marked
 * as in use in the file, and stored again when it is closed, as QEMU does.
 *
 * Invariants:
 * - While the image is open the file calls every bitmap in memory in use: a crash makes them
 *   inconsistent, not wrong.
 * - An enabled bitmap has the bit of every range that was written, zeroed or discarded, whether
 *   that succeeded or not.
 * - Bitmaps that were in use when the image was opened are left as they are: what they missed is
 *   not known. One that the end of the file cuts off is marked as such too.
 * - New tables and directory are durable before the header leads to them; the old ones are freed
 *   after that.
 */

import { ceilDiv } from '../../../core/alignment.ts';
import { bytesOfText } from '../../../core/byte-text.ts';
import { viewOf, writeU64be } from '../../../core/bytes.ts';
import { Qcow2BenchError } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import type { GuestOffset } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import type { BitmapChange } from '../../disk-image.ts';
import {
  BITMAP_FLAG,
  checkFits,
  encodeBitmapEntries,
  encodeBitmapsExtension,
  GRANULARITY_BITS_MAX,
  GRANULARITY_BITS_MIN,
  isBitmapCutOff,
  NAME_BYTES_MAX,
  readBitmapTable,
  readConsistentDirectory,
  type BitmapDirectory,
  type BitmapEntry,
} from './bitmap-directory.ts';
import { EXTENSION } from '../on-disk/header-extensions.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import { AUTOCLEAR, ENTRY_SIZE } from '../on-disk/layout.ts';

/** Bytes; a bit for each cluster, unless they are smaller. */
const GRANULARITY_DEFAULT_MIN = 4096;

/** One bitmap; `bits` is missing where the file's cannot be trusted. */
interface OpenBitmap {
  /** As the directory has it; of a new one, without a table. */
  entry: BitmapEntry;
  /** Lowest bit first. */
  bits: Uint8Array | undefined;
}

export class Bitmaps {
  readonly #core: ImageCore;
  /** As the file has it, if it has one. */
  #directory: BitmapDirectory | undefined;
  #bitmaps: readonly OpenBitmap[];

  private constructor(
    core: ImageCore,
    directory: BitmapDirectory | undefined,
    bitmaps: readonly OpenBitmap[],
  ) {
    this.#core = core;
    this.#directory = directory;
    this.#bitmaps = bitmaps;
  }

  /**
   * Reads the bitmaps of an image that was just opened for writing, and marks them as in use.
   *
   * @returns nothing if the image has none that are in step with it
   * @throws Qcow2BenchError `qcow2-bad-bitmaps`, `qcow2-bitmaps-too-large`
   */
  static async load(core: ImageCore): Promise<Bitmaps | undefined> {
    const { header, metadata } = core;
    const directory = await readConsistentDirectory(header);
    if (directory === undefined) return undefined;
    metadata.add(directory.offset, directory.byteLength, 'bitmap');
    const bitmaps: OpenBitmap[] = [];
    let left: number = LIMITS.bitmapMemoryBytes;
    for (const entry of directory.entries) {
      const isTrusted = (entry.flags & BITMAP_FLAG.inUse) === 0;
      const bits = isTrusted ? await readBits(core, entry, left) : undefined;
      left -= bits?.byteLength ?? 0;
      bitmaps.push({ entry: { ...entry, flags: entry.flags | BITMAP_FLAG.inUse }, bits });
    }
    const loaded = new Bitmaps(core, directory, bitmaps);
    if (directory.entries.some(({ flags }) => (flags & BITMAP_FLAG.inUse) === 0)) await loaded.#markInUse();
    return loaded;
  }

  /** Of an image that has none. */
  static none(core: ImageCore): Bitmaps {
    return new Bitmaps(core, undefined, []);
  }

  /**
   * Adds, removes or changes a bitmap; all but a removal reaches the file when the image is closed.
   * The lock is held.
   *
   * @throws Qcow2BenchError `bitmap-needs-v3`, `bitmap-exists`, `bitmap-missing`, `bitmap-in-use`,
   *   `bitmap-bad-name`, `bitmap-bad-granularity`, `too-many-bitmaps`, `qcow2-bitmaps-too-large`
   */
  async change(change: BitmapChange): Promise<void> {
    if (change.action === 'add') {
      this.#add(change.name, change.granularity);
      return;
    }
    const bitmap = this.#find(change.name);
    if (change.action === 'remove') {
      await this.#remove(bitmap);
      return;
    }
    const bits = this.#bitsOf(bitmap);
    const { entry } = bitmap;
    if (change.action === 'merge') this.#merge(this.#find(change.source), entry.granularityBits, bits);
    else if (change.action === 'clear') bits.fill(0);
    else if (change.action === 'enable') bitmap.entry = { ...entry, flags: entry.flags | BITMAP_FLAG.auto };
    else bitmap.entry = { ...entry, flags: entry.flags & ~BITMAP_FLAG.auto };
  }

  #bitsOf({ entry, bits }: OpenBitmap): Uint8Array {
    if (bits !== undefined) return bits;
    throw this.#error(
      'bitmap-in-use',
      `the bitmap '${entry.name}' was not stored when the image was last written, so what it missed is not known: it can only be removed`,
    );
  }

  /** Marks in `target` all that a bit of the source covers. */
  #merge(source: OpenBitmap, targetGranularityBits: number, target: Uint8Array): void {
    const bits = this.#bitsOf(source);
    const granularity = 2 ** source.entry.granularityBits;
    const { virtualSize } = this.#core.header.values;
    const bitCount = ceilDiv(virtualSize, granularity);
    for (let bit = 0; bit < bitCount; bit++) {
      if (bits[bit >>> 3] === 0) bit |= 7;
      else if (isSet(bits, bit)) {
        const end = Math.min((bit + 1) * granularity, virtualSize);
        setBits(target, targetGranularityBits, bit * granularity, end);
      }
    }
  }

  #find(name: string): OpenBitmap {
    const found = this.#bitmaps.find(({ entry }) => entry.name === name);
    if (found !== undefined) return found;
    const names = this.#bitmaps.map(({ entry }) => `'${entry.name}'`).join(', ');
    throw this.#error(
      'bitmap-missing',
      `no bitmap '${name}': the image has ${names === '' ? 'none' : names}`,
    );
  }

  #add(name: string, asked: number | undefined): void {
    const { header, geometry } = this.#core;
    const nameBytes = bytesOfText(name);
    const granularity = asked ?? Math.max(GRANULARITY_DEFAULT_MIN, geometry.clusterSize);
    if (header.values.version < 3) {
      throw this.#error(
        'bitmap-needs-v3',
        'version 2 images have no bitmaps: raise it with amend --compat 1.1',
      );
    }
    if (nameBytes.byteLength === 0 || nameBytes.byteLength > NAME_BYTES_MAX) {
      throw this.#error(
        'bitmap-bad-name',
        `the name has ${String(nameBytes.byteLength)} bytes; it must have 1 to ${String(NAME_BYTES_MAX)}`,
      );
    }
    if (this.#bitmaps.some(({ entry }) => entry.name === name)) {
      throw this.#error('bitmap-exists', `there is a bitmap '${name}': choose another name, or clear it`);
    }
    if (this.#bitmaps.length >= LIMITS.bitmapCount) {
      throw this.#error('too-many-bitmaps', `an image has at most ${String(LIMITS.bitmapCount)} bitmaps`);
    }
    const granularityBits = Math.log2(granularity);
    const isAllowed = granularityBits >= GRANULARITY_BITS_MIN && granularityBits <= GRANULARITY_BITS_MAX;
    if (!isAllowed || !Number.isInteger(granularityBits)) {
      throw this.#error(
        'bitmap-bad-granularity',
        `a granularity of ${String(granularity)} bytes: it must be a power of two, 512 to 2GiB`,
      );
    }
    const length = ceilDiv(ceilDiv(header.values.virtualSize, granularity), 8);
    const taken = this.#bitmaps.reduce((sum, { bits }) => sum + (bits?.byteLength ?? 0), 0);
    if (length > LIMITS.bitmapBytes || taken + length > LIMITS.bitmapMemoryBytes) {
      throw this.#error(
        'qcow2-bitmaps-too-large',
        `the bitmap would need ${String(length)} bytes: use a larger granularity than ${String(granularity)}`,
      );
    }
    const flags = BITMAP_FLAG.inUse | BITMAP_FLAG.auto;
    const entry = { name, nameBytes, granularityBits, flags, tableOffset: 0, tableEntries: 0 };
    this.#bitmaps = [...this.#bitmaps, { entry, bits: new Uint8Array(length) }];
  }

  async #remove(bitmap: OpenBitmap): Promise<void> {
    this.#bitmaps = this.#bitmaps.filter((each) => each !== bitmap);
    if (bitmap.entry.tableOffset === 0) return;
    await this.#replaceDirectory(this.#bitmaps.map(({ entry }) => entry));
    await this.#free(bitmap.entry);
  }

  #error(code: string, message: string): Qcow2BenchError {
    return new Qcow2BenchError(code, message, { path: this.#core.header.device.path });
  }

  /** Notes that a guest range changed, or may have. */
  mark(guestOffset: GuestOffset, length: number): void {
    if (length === 0) return;
    for (const { entry, bits } of this.#bitmaps) {
      if (bits === undefined || (entry.flags & BITMAP_FLAG.auto) === 0) continue;
      setBits(bits, entry.granularityBits, guestOffset, guestOffset + length);
    }
  }

  /**
   * @throws Qcow2BenchError `resize-with-bitmap-in-use` of a disk that a bitmap in the file would
   *   not follow.
   */
  refuseResize(): void {
    const inUse = this.#bitmaps.find(({ bits }) => bits === undefined);
    if (inUse === undefined) return;
    const { name, tableOffset } = inUse.entry;
    throw new Qcow2BenchError(
      'resize-with-bitmap-in-use',
      `the bitmap '${name}' was not stored when the image was last written, and cannot follow the disk to another size: remove it with bitmap --remove`,
      { path: this.#core.header.device.path, offset: tableOffset },
    );
  }

  /** Follows a disk that got another size: what is new is clean. */
  resize(virtualSize: number): void {
    for (const bitmap of this.#bitmaps) {
      if (bitmap.bits === undefined) continue;
      const bitCount = ceilDiv(virtualSize, 2 ** bitmap.entry.granularityBits);
      const bits = new Uint8Array(ceilDiv(bitCount, 8));
      bits.set(bitmap.bits.subarray(0, bits.byteLength));
      if (bitCount % 8 !== 0) bits[bits.byteLength - 1] = (bits.at(-1) ?? 0) & (2 ** (bitCount % 8) - 1);
      bitmap.bits = bits;
    }
  }

  /**
   * Stores every bitmap in new clusters, points the header to them, frees the old ones. The lock is
   * held.
   */
  async store(): Promise<void> {
    if (this.#bitmaps.every(({ bits }) => bits === undefined)) return;
    const entries: BitmapEntry[] = [];
    for (const { entry, bits } of this.#bitmaps) {
      entries.push(bits === undefined ? entry : await this.#storeBitmap(entry, bits));
    }
    await this.#replaceDirectory(entries);
    for (const { entry, bits } of [...this.#bitmaps].reverse()) {
      if (bits !== undefined && entry.tableOffset !== 0) await this.#free(entry);
    }
  }

  /** Points the header to a new directory, or to none without entries; frees the old one. */
  async #replaceDirectory(entries: readonly BitmapEntry[]): Promise<void> {
    const { header, refcounts, metadata } = this.#core;
    const old = this.#directory;
    const directory = entries.length === 0 ? undefined : await this.#writeDirectory(entries);
    this.#directory = directory;
    const bit = BigInt(AUTOCLEAR.bitmaps);
    const { autoclear } = header.values;
    const others = header.values.otherExtensions.filter(({ type }) => type !== EXTENSION.bitmaps);
    await header.rewrite(
      directory === undefined
        ? { autoclear: autoclear & ~bit, otherExtensions: others }
        : { autoclear: autoclear | bit, otherExtensions: [encodeBitmapsExtension(directory), ...others] },
    );
    if (old !== undefined) metadata.remove(old.offset, old.byteLength, 'bitmap');
    if (directory !== undefined) metadata.add(directory.offset, directory.byteLength, 'bitmap');
    await header.device.sync('bitmap');
    if (old !== undefined) await refcounts.free(old.offset, old.byteLength, 'keep');
  }

  async #writeDirectory(entries: readonly BitmapEntry[]): Promise<BitmapDirectory> {
    const bytes = encodeBitmapEntries(entries);
    const offset = await this.#writeNew(bytes);
    await this.#core.flush('bitmap');
    return { offset, byteLength: bytes.byteLength, entries };
  }

  /** Frees the clusters and the table that the file has of a bitmap. */
  async #free(entry: BitmapEntry): Promise<void> {
    const { header, refcounts, geometry } = this.#core;
    for (const cluster of await readBitmapTable(header, entry)) {
      if (cluster.kind === 'stored') {
        await refcounts.free(cluster.hostOffset, geometry.clusterSize, 'discard');
      }
    }
    await refcounts.free(entry.tableOffset, entry.tableEntries * ENTRY_SIZE, 'keep');
  }

  async #storeBitmap(entry: BitmapEntry, bits: Uint8Array): Promise<BitmapEntry> {
    const { clusterSize } = this.#core.geometry;
    const clusters = ceilDiv(bits.byteLength, clusterSize);
    const table = allocatePages(Math.max(1, clusters * ENTRY_SIZE)).subarray(0, clusters * ENTRY_SIZE);
    for (let index = 0; index < clusters; index++) {
      const part = bits.subarray(index * clusterSize, (index + 1) * clusterSize);
      if (part.every((byte) => byte === 0)) continue;
      const cluster = allocatePages(clusterSize);
      cluster.set(part);
      writeU64be(viewOf(table), index * ENTRY_SIZE, await this.#writeNew(cluster));
    }
    const tableOffset = await this.#writeNew(table);
    return { ...entry, flags: entry.flags & ~BITMAP_FLAG.inUse, tableOffset, tableEntries: clusters };
  }

  /**
   * The directory is overwritten in place, so its bit says meanwhile that it is not to be trusted.
   */
  async #markInUse(): Promise<void> {
    const { header } = this.#core;
    const entries = this.#bitmaps.map(({ entry }) => entry);
    const bit = BigInt(AUTOCLEAR.bitmaps);
    const known = header.values.autoclear & BigInt(AUTOCLEAR.bitmaps | AUTOCLEAR.rawExternalData);
    await header.rewrite({ autoclear: known & ~bit });
    await header.device.sync('bitmap');
    if (this.#directory !== undefined) {
      await header.device.write(this.#directory.offset, encodeBitmapEntries(entries), 'bitmap');
    }
    await header.rewrite({});
    await header.device.sync('bitmap');
    await header.rewrite({ autoclear: known | bit });
    await header.device.sync('bitmap');
  }

  async #writeNew(bytes: Uint8Array): Promise<number> {
    const { header, refcounts, geometry, metadata } = this.#core;
    if (bytes.byteLength === 0) return (await refcounts.findFree(0)) * geometry.clusterSize;
    const offset = await refcounts.allocate(ceilDiv(bytes.byteLength, geometry.clusterSize));
    const kind = metadata.overlap(offset, bytes.byteLength, undefined);
    if (kind !== undefined) await header.markCorruptAt(`a bitmap would overwrite the ${kind}`, offset);
    await header.device.write(offset, bytes, 'bitmap');
    return offset;
  }
}

/**
 * The bits of a bitmap, at most `limit` bytes of them; undefined if a part of it is past the end of
 * the file.
 */
async function readBits(
  { header, geometry }: ImageCore,
  entry: BitmapEntry,
  limit: number,
): Promise<Uint8Array | undefined> {
  const { clusterSize } = geometry;
  const place = { path: header.device.path, offset: entry.tableOffset };
  const length = ceilDiv(ceilDiv(header.values.virtualSize, 2 ** entry.granularityBits), 8);
  if (length > limit) {
    throw new Qcow2BenchError(
      'qcow2-bitmaps-too-large',
      `the bitmaps need more than ${String(LIMITS.bitmapMemoryBytes)} bytes of memory: remove '${entry.name}' with bitmap --remove`,
      place,
    );
  }
  checkFits(header, entry, { virtualSize: header.values.virtualSize, clusterSize });
  const clusters = await readBitmapTable(header, entry, 'taken');
  if (isBitmapCutOff(header, entry, clusters)) return undefined;
  const bits = new Uint8Array(length);
  const cluster = allocatePages(clusterSize);
  for (const [index, { kind, ...stored }] of clusters.entries()) {
    const target = bits.subarray(index * clusterSize, (index + 1) * clusterSize);
    if (kind === 'ones') target.fill(0xff);
    if ('hostOffset' in stored) {
      await header.device.read(stored.hostOffset, cluster, 'bitmap');
      target.set(cluster.subarray(0, target.byteLength));
    }
  }
  return bits;
}

function isSet(bits: Uint8Array, bit: number): boolean {
  return ((bits[bit >>> 3] as number) & (1 << (bit & 7))) !== 0;
}

/** Sets the bits of a guest range that is not empty. */
function setBits(bits: Uint8Array, granularityBits: number, start: GuestOffset, end: GuestOffset): void {
  const granularity = 2 ** granularityBits;
  const last = Math.floor((end - 1) / granularity);
  for (let bit = Math.floor(start / granularity); bit <= last; bit++) {
    bits[bit >>> 3] = (bits[bit >>> 3] as number) | (1 << (bit & 7));
  }
}
