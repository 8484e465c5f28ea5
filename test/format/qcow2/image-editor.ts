/**
 * A qcow2 image as bytes in memory whose structures are found by its own header, so that a test can
 * say what it breaks: "the refcount of the first data cluster", not an offset.
 *
 * Invariant: nothing is checked on the way; the image may be as broken as the test likes.
 */

import { FIELD } from '../../../src/format/qcow2/on-disk/header.ts';

export const COPIED = 1n << 63n;
const OFFSET = 0x00ff_ffff_ffff_fe00n;

export class ImageEditor {
  #bytes: Buffer;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes);
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  get clusterSize(): number {
    return 2 ** this.#bytes.readUInt32BE(FIELD.clusterBits);
  }

  get refcountBits(): number {
    const version = this.#bytes.readUInt32BE(FIELD.version);
    return version === 2 ? 16 : 2 ** this.#bytes.readUInt32BE(FIELD.refcountOrder);
  }

  get refcountTable(): number {
    return this.#at(FIELD.refcountTableOffset);
  }

  /** Host offset of refcount block `index`. */
  refcountBlock(index = 0): number {
    return this.#at(this.refcountTable + 8 * index);
  }

  get l1(): number {
    return this.#at(FIELD.l1Offset);
  }

  /** Host offset of the L2 table that L1 entry `index` leads to. */
  l2(index = 0): number {
    return this.#target(this.l1 + 8 * index);
  }

  /** Host offset of the cluster that entry `index` of an L2 table leads to. */
  data(index = 0, l1Index = 0): number {
    return this.#target(this.l2(l1Index) + 8 * index);
  }

  get snapshotTable(): number {
    return this.#at(FIELD.snapshotsOffset);
  }

  u64(at: number): bigint {
    return this.#bytes.readBigUInt64BE(at);
  }

  setU64(at: number, value: bigint | number): this {
    this.#bytes.writeBigUInt64BE(BigInt.asUintN(64, BigInt(value)), at);
    return this;
  }

  setU32(at: number, value: number): this {
    this.#bytes.writeUInt32BE(value, at);
    return this;
  }

  /** Turns bits of a 64-bit field over. */
  flip(at: number, bits: bigint): this {
    return this.setU64(at, this.u64(at) ^ bits);
  }

  /**
   * The stored refcount of the cluster at `hostOffset`; refcounts of all widths lie from a byte's
   * lowest bit up.
   */
  refcount(hostOffset: number): bigint {
    const { at, shift } = this.#refcountPlace(hostOffset);
    const bits = this.refcountBits;
    if (bits < 8) return BigInt(((this.#bytes[at] ?? 0) >> shift) & (2 ** bits - 1));
    return BigInt(`0x${this.#bytes.subarray(at, at + bits / 8).toString('hex')}`);
  }

  setRefcount(hostOffset: number, value: number): this {
    const { at, shift } = this.#refcountPlace(hostOffset);
    const bits = this.refcountBits;
    if (bits < 8) {
      const mask = (2 ** bits - 1) << shift;
      this.#bytes[at] = ((this.#bytes[at] ?? 0) & ~mask) | (value << shift);
    } else {
      Buffer.from(
        BigInt(value)
          .toString(16)
          .padStart(bits / 4, '0'),
        'hex',
      ).copy(this.#bytes, at);
    }
    return this;
  }

  /** Makes the file `clusters` longer, all zeroes. */
  lengthen(clusters: number): this {
    this.#bytes = Buffer.concat([this.#bytes, Buffer.alloc(clusters * this.clusterSize)]);
    return this;
  }

  /** Cuts the file off at `length` bytes. */
  cut(length: number): this {
    this.#bytes = this.#bytes.subarray(0, length);
    return this;
  }

  #refcountPlace(hostOffset: number): { readonly at: number; readonly shift: number } {
    const bits = this.refcountBits;
    const cluster = Math.floor(hostOffset / this.clusterSize);
    const perBlock = (this.clusterSize * 8) / bits;
    const bit = (cluster % perBlock) * bits;
    return { at: this.refcountBlock(Math.floor(cluster / perBlock)) + Math.floor(bit / 8), shift: bit % 8 };
  }

  #at(field: number): number {
    return Number(this.u64(field));
  }

  #target(entry: number): number {
    return Number(this.u64(entry) & OFFSET);
  }
}
