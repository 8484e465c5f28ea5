/**
 * Random damage of qcow2 images, structure by structure: L1, L2, refcount and snapshot tables,
 * bitmaps, the file's length; and the marks of an unclean close and of corruption on top. The same
 * seed damages an image in the same way.
 */

import { Random } from '../../../src/core/random.ts';
import { EXTENSION } from '../../../src/format/qcow2/on-disk/header-extensions.ts';

const OFFSET = 0x00ff_ffff_ffff_fe00n;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;
const TABLES = ['l1', 'l2', 'l2', 'l2', 'refcount-table', 'refcount-block', 'refcount-block'] as const;

/** Damages a copy of the image; answers it, and what was done in words. */
export function damaged(
  image: Uint8Array<ArrayBuffer>,
  seed: number,
): { readonly bytes: Uint8Array<ArrayBuffer>; readonly what: readonly string[] } {
  const random = new Random(seed);
  const spoiler = new Spoiler(image.slice(), random);
  const hits = 1 + random.below(4);
  for (let n = 0; n < hits; n++) {
    if (random.chance(0.06)) spoiler.cut();
    else if (random.chance(0.08)) spoiler.spoilSnapshots();
    else if (spoiler.hasBitmaps && random.chance(0.5)) spoiler.spoilBitmaps();
    else spoiler.spoilTable(pick(random, TABLES));
  }
  if (random.chance(0.3)) spoiler.mark();
  return { bytes: spoiler.bytes, what: spoiler.what };
}

function pick<T>(random: Random, items: readonly T[]): T {
  return items[random.below(items.length)] as T;
}

class Spoiler {
  bytes: Uint8Array<ArrayBuffer>;
  readonly what: string[] = [];
  readonly #random: Random;
  readonly #clusterSize: number;
  readonly #refcountBits: number;
  readonly #isExtended: boolean;
  readonly #original: DataView;
  readonly #originalLength: number;

  constructor(bytes: Uint8Array<ArrayBuffer>, random: Random) {
    this.bytes = bytes;
    this.#random = random;
    this.#original = new DataView(bytes.slice().buffer);
    this.#originalLength = bytes.byteLength;
    this.#clusterSize = 2 ** this.#original.getUint32(20);
    this.#isExtended = this.#original.getUint32(4) === 3 && (this.#original.getUint8(79) & 16) !== 0;
    this.#refcountBits = this.#original.getUint32(4) === 2 ? 16 : 2 ** this.#original.getUint32(96);
  }

  get hasBitmaps(): boolean {
    return this.#extension(EXTENSION.bitmaps) !== undefined;
  }

  /** Not closed cleanly, found to be corrupt, or both. */
  mark(): void {
    if (this.#original.getUint32(4) === 2) return;
    const marks = 1 + this.#random.below(3);
    this.#put8(79, (this.bytes[79] as number) | marks, 'incompatible features');
  }

  /** The extension, the directory, a table, or whether they are in step with the disk. */
  spoilBitmaps(): void {
    const random = this.#random;
    const extension = this.#extension(EXTENSION.bitmaps) ?? 0;
    const directory = this.#at64(extension + 16);
    // Flags are at 12, type and granularity at 16: QEMU opens the image with few of their values.
    const entry = directory + (random.chance(0.5) ? 0 : 24 + 8);
    switch (random.below(9)) {
      case 0:
        this.#put64(extension + 16, this.#offset(), 'bitmap directory');
        return;
      case 1:
        this.#flip(extension + random.below(16), 'bitmaps extension');
        return;
      case 2:
        this.#put8(95, 0, 'bitmaps out of step');
        return;
      case 3:
        this.#flip(entry + random.below(24), 'bitmap entry');
        return;
      case 4:
        this.#put8(entry + 15, random.below(4), 'bitmap flags');
        return;
      case 5:
        this.#put64(entry, this.#offset(), 'bitmap table offset');
        return;
      default:
        this.#spoilBitmapTable(this.#at64(entry));
    }
  }

  #spoilBitmapTable(table: number): void {
    const random = this.#random;
    if (table + 8 > this.#originalLength) return;
    if (random.chance(0.6)) this.#put64(table, this.#offset(), 'bitmap table');
    else if (random.chance(0.5)) this.#put64(table, BigInt(random.below(2)), 'bitmap table');
    else this.#flip(table + random.below(8), 'bitmap table');
  }

  /** Of the data of a header extension. */
  #extension(wanted: number): number | undefined {
    const view = this.#original;
    if (view.getUint32(4) === 2) return undefined;
    for (let at = view.getUint32(100); ;) {
      const type = view.getUint32(at);
      if (type === wanted) return at + 8;
      if (type === EXTENSION.end) return undefined;
      at += 8 + Math.ceil(view.getUint32(at + 4) / 8) * 8;
    }
  }

  /** The file ends early. */
  cut(): void {
    const length = this.#random.chance(0.5)
      ? this.#random.below(this.#originalLength / this.#clusterSize + 1) * this.#clusterSize
      : this.#originalLength - this.#random.below(2 * this.#clusterSize);
    if (length >= this.bytes.byteLength) return;
    this.bytes = this.bytes.slice(0, Math.max(length, this.#clusterSize));
    this.what.push(`cut to ${String(this.bytes.byteLength)}`);
  }

  spoilSnapshots(): void {
    if (this.#original.getUint32(60) === 0) return;
    const at = Number(this.#original.getBigUint64(64));
    const choice = this.#random.below(3);
    if (choice === 0) this.#flip(at + this.#random.below(12), 'snapshot');
    else if (choice === 1) this.#put64(at, this.#offset(), 'snapshot');
    else this.spoilTable('l2', Number(this.#original.getBigUint64(at)));
  }

  spoilTable(kind: (typeof TABLES)[number], l1 = this.#at64(40)): void {
    const random = this.#random;
    switch (kind) {
      case 'l1':
        this.#spoilEntry(l1 + 8 * random.below(Math.max(1, this.#original.getUint32(36))), kind);
        return;
      case 'l2': {
        const tables = this.#targets(l1, this.#original.getUint32(36));
        if (tables.length === 0) return;
        // Entries in use are at the beginning of a table in most images.
        const entries = this.#clusterSize / 8;
        const index = random.chance(0.8) ? random.below(Math.min(entries, 24)) : random.below(entries);
        const at = pick(random, tables) + 8 * index;
        if (this.#isExtended && random.chance(0.4)) this.#spoilSubclusters(at);
        else this.#spoilEntry(at, kind);
        return;
      }
      case 'refcount-table': {
        const entries = (this.#original.getUint32(56) * this.#clusterSize) / 8;
        const index = random.chance(0.8) ? random.below(Math.min(entries, 3)) : random.below(entries);
        this.#spoilEntry(this.#at64(48) + 8 * index, kind);
        return;
      }
      case 'refcount-block':
        this.#spoilRefcount();
    }
  }

  #spoilRefcount(): void {
    const random = this.#random;
    const table = this.#at64(48);
    const blocks = this.#targets(table, (this.#original.getUint32(56) * this.#clusterSize) / 8);
    if (blocks.length === 0) return;
    const block = pick(random, blocks);
    const clusters = Math.ceil(this.#originalLength / this.#clusterSize);
    const entry = random.chance(0.9)
      ? random.below(clusters)
      : random.below((this.#clusterSize * 8) / this.#refcountBits);
    const at = block + Math.floor((entry * this.#refcountBits) / 8);
    if (at >= block + this.#clusterSize) return;
    if (random.chance(0.1)) {
      this.bytes.fill(random.chance(0.5) ? 0 : 0x11, at, Math.min(block + this.#clusterSize, at + 64));
      this.what.push(`refcounts from 0x${at.toString(16)}`);
    } else if (random.chance(0.5)) {
      this.#put8(at + Math.max(0, this.#refcountBits / 8 - 1), random.below(4), 'refcount');
    } else {
      this.#flip(at, 'refcount');
    }
  }

  /**
   * The bits of an entry: zero in the high half, allocated in the low one, of which only one may be
   * set.
   */
  #spoilSubclusters(at: number): void {
    const random = this.#random;
    const bits = at | 8;
    if (bits + 8 > this.bytes.byteLength) return;
    const before = this.#view().getBigUint64(bits);
    if (random.chance(0.3)) {
      // A place for no data, where no cluster can be.
      this.#put64(bits, before & ~0xffff_ffffn, 'subclusters');
      this.#put64(bits - 8, this.#view().getBigUint64(bits - 8) ^ 512n, 'l2');
      return;
    }
    const subcluster = BigInt(random.below(32));
    const both = (1n << subcluster) | (1n << (32n + subcluster));
    this.#put64(bits, random.chance(0.7) ? before | both : before ^ (both << 1n), 'subclusters');
  }

  #spoilEntry(at: number, kind: string): void {
    const random = this.#random;
    const before = at + 8 <= this.bytes.byteLength ? this.#view().getBigUint64(at) : 0n;
    switch (random.below(8)) {
      case 0:
        this.#put64(at, before ^ COPIED, kind);
        return;
      case 1:
        this.#put64(at, before ^ (1n << BigInt(random.below(64))), kind);
        return;
      case 2:
        this.#put64(at, 0n, kind);
        return;
      case 3:
        this.#put64(at, before ^ (1n << BigInt(random.below(9))), kind);
        return;
      case 4:
        this.#put64(at, (before & ~OFFSET) | this.#offset() | (random.chance(0.3) ? 1n : 0n), kind);
        return;
      case 5:
        this.#put64(at, COPIED | this.#offset(), kind);
        return;
      case 6:
        // The same as its neighbour.
        if (at + 16 <= this.bytes.byteLength) this.#put64(at, this.#view().getBigUint64(at + 8), kind);
        return;
      default:
        this.#put64(at, before ^ (random.chance(0.2) ? COMPRESSED | COPIED : COMPRESSED), kind);
    }
  }

  /** An offset somewhere in the file, past its end, or not aligned. */
  #offset(): bigint {
    const random = this.#random;
    const clusters = Math.ceil(this.#originalLength / this.#clusterSize);
    const cluster = random.below(clusters + 4);
    switch (random.below(8)) {
      case 0:
        return BigInt(cluster * this.#clusterSize + 512 * random.below(8)) & OFFSET;
      case 1:
        return BigInt((clusters + random.below(200)) * this.#clusterSize);
      case 2:
        return (1n << BigInt(36 + random.below(20))) & OFFSET;
      default:
        return BigInt(cluster * this.#clusterSize);
    }
  }

  #targets(table: number, entries: number): number[] {
    const targets: number[] = [];
    for (let index = 0; index < entries; index++) {
      const at = table + index * 8;
      if (at + 8 > this.#originalLength) break;
      const target = Number(this.#original.getBigUint64(at) & OFFSET);
      if (target !== 0 && target < this.#originalLength) targets.push(target);
    }
    return targets;
  }

  #at64(at: number): number {
    return Number(this.#original.getBigUint64(at));
  }

  #view(): DataView {
    return new DataView(this.bytes.buffer);
  }

  #flip(at: number, kind: string): void {
    if (at >= this.bytes.byteLength) return;
    this.#put8(at, (this.bytes[at] as number) ^ (1 << this.#random.below(8)), kind);
  }

  #put8(at: number, value: number, kind: string): void {
    if (at >= this.bytes.byteLength) return;
    this.bytes[at] = value;
    this.what.push(`${kind} 0x${at.toString(16)} = ${String(value)}`);
  }

  #put64(at: number, value: bigint, kind: string): void {
    if (at + 8 > this.bytes.byteLength) return;
    this.#view().setBigUint64(at, value);
    this.what.push(`${kind} 0x${at.toString(16)} = 0x${BigInt.asUintN(64, value).toString(16)}`);
  }
}
