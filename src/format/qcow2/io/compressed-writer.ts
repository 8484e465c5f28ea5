/**
 * Writing clusters compressed: packed byte by byte into host clusters that several of them share.
 *
 * Invariants:
 * - Only a cluster that nothing was written to is written compressed; its entry is never marked
 *   copied, so any writer that writes to it afterwards allocates.
 * - A cluster that does not become smaller is written as it is.
 * - The dirty bit is not set: refcounts become durable before the entries that need them, also if
 *   they are lazy.
 * - A failed write leaves the entry as it was.
 */

import { Qcow2BenchError, hex } from '../../../core/error.ts';
import type { GuestOffset, HostOffset } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import { clusterCodec } from '../compression/compression.ts';
import { allocatedMapAt, setMapsAt, zeroMapAt, type SubclusterMaps } from '../on-disk/extended-l2-entry.ts';
import type { GuestWriter } from './guest-writer.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import {
  clearAt,
  clusterTypeAt,
  compressedOffsetBits,
  setCompressedAt,
  setZeroAt,
} from '../on-disk/l2-entry.ts';

/** As many as the coroutines of `qemu-img convert`. */
const PACKED_AT_A_TIME = 8;

/** Packed bytes that have their place, and what the entry said before. */
interface Placed {
  readonly hostOffset: HostOffset;
  readonly wasZero: boolean;
  /** Of an extended entry. */
  readonly maps: SubclusterMaps | undefined;
}

export class CompressedWriter {
  /** Compressed clusters written so far. */
  clusters = 0;
  readonly #core: ImageCore;
  readonly #writer: GuestWriter;

  constructor(core: ImageCore, writer: GuestWriter) {
    this.#core = core;
    this.#writer = writer;
  }

  /**
   * Writes whole clusters, in their order; the last may be cut off by the disk's end. Several are
   * packed at a time, each on a thread of its own.
   */
  async write(guestOffset: GuestOffset, bytes: Uint8Array): Promise<void> {
    const { clusterSize } = this.#core.geometry;
    this.#checkRequest(guestOffset, bytes.byteLength);
    const clusters = Array.from({ length: Math.ceil(bytes.byteLength / clusterSize) }, (_, index) =>
      bytes.subarray(index * clusterSize, (index + 1) * clusterSize),
    );
    const [only] = clusters;
    if (only !== undefined && clusters.length === 1) {
      await this.#writeCluster(guestOffset, only, this.#pack(only));
      return;
    }
    const ahead: Promise<Uint8Array | undefined>[] = [];
    try {
      for (const [index, cluster] of clusters.entries()) {
        while (ahead.length < PACKED_AT_A_TIME) {
          const next = clusters[index + ahead.length];
          if (next === undefined) break;
          ahead.push(this.#packApart(next));
        }
        await this.#writeCluster(guestOffset + index * clusterSize, cluster, await ahead.shift());
      }
    } finally {
      // The threads read the caller's bytes.
      await Promise.allSettled(ahead);
    }
  }

  /** Makes the file end at a whole sector, as QEMU does after a series of compressed writes. */
  async alignFileEnd(): Promise<void> {
    const { device } = this.#core;
    const size = device.size();
    if (size % 512 !== 0) await device.truncate(Math.ceil(size / 512) * 512, 'data');
  }

  #checkRequest(guestOffset: GuestOffset, length: number): void {
    const { geometry, header } = this.#core;
    const { clusterSize } = geometry;
    const end = guestOffset + length;
    if (header.hasDataFile) {
      const message = 'an image with an external data file has no compressed clusters: write uncompressed';
      throw new Qcow2BenchError('qcow2-compressed-data-file', message, { path: header.device.path });
    }
    const isWhole = length % clusterSize === 0 || end === header.values.virtualSize;
    if (guestOffset % clusterSize === 0 && isWhole && end <= header.values.virtualSize) return;
    throw new Qcow2BenchError(
      'compressed-write-unaligned',
      `a compressed write of ${String(length)} bytes at guest offset ${hex(guestOffset)} must cover whole clusters of ${String(clusterSize)} bytes within the disk`,
      { path: header.device.path },
    );
  }

  #pack(bytes: Uint8Array): Uint8Array | undefined {
    const { geometry, header } = this.#core;
    const codec = clusterCodec(header.values.compressionType);
    return codec.compress(padded(bytes, geometry.clusterSize), geometry.clusterSize - 1);
  }

  #packApart(bytes: Uint8Array): Promise<Uint8Array | undefined> {
    const { geometry, header } = this.#core;
    const codec = clusterCodec(header.values.compressionType);
    const packed = codec.compressApart(padded(bytes, geometry.clusterSize), geometry.clusterSize - 1);
    // Its error is that of the write, once its turn comes.
    packed.catch(() => undefined);
    return packed;
  }

  async #writeCluster(
    guestOffset: GuestOffset,
    bytes: Uint8Array,
    packed: Uint8Array | undefined,
  ): Promise<void> {
    const { lock, device } = this.#core;
    if (packed === undefined) {
      await this.#writer.write(guestOffset, bytes);
      return;
    }
    // The codec's own memory is reused by the next call.
    const stored = allocatePages(packed.byteLength);
    stored.set(packed);
    const placed = await lock.hold(() => this.#place(guestOffset, stored.byteLength));
    try {
      const pending = device.write(placed.hostOffset, stored, 'data');
      if (pending !== undefined) await pending;
    } catch (error) {
      await lock.hold(() => this.#takeBack(guestOffset, placed, stored.byteLength));
      throw error;
    }
    this.clusters++;
  }

  /** Allocates packed bytes and points the entry to them. */
  async #place(guestOffset: GuestOffset, length: number): Promise<Placed> {
    const { tables, refcounts, geometry, metadata, header } = this.#core;
    const slot = await tables.acquireForWriting(guestOffset);
    try {
      const slice = tables.view(slot);
      const word = tables.indexInSlice(guestOffset) * geometry.entryWords;
      const type = clusterTypeAt(slice, word);
      if (type !== 'unallocated' && type !== 'zero') throw this.#wouldOverwrite(guestOffset);
      const hostOffset = await refcounts.allocateBytes(length);
      if (BigInt(hostOffset) >> compressedOffsetBits(geometry.clusterBits) !== 0n) {
        await refcounts.free(hostOffset, length, 'keep');
        throw new Qcow2BenchError(
          'qcow2-compressed-offset-too-large',
          'the file is too long for compressed clusters of this size: use a smaller cluster size',
          { path: header.device.path, offset: hostOffset },
        );
      }
      tables.markEntries(slot, tables.indexInSlice(guestOffset), 1);
      setCompressedAt(slice, word, { hostOffset, length }, geometry.clusterBits);
      const maps = geometry.entryWords === 2 ? takeMaps(slice, word) : undefined;
      const kind = metadata.overlap(hostOffset, length, undefined);
      if (kind !== undefined) {
        await header.markCorruptAt(`a compressed write would overwrite the ${kind}`, hostOffset);
      }
      return { hostOffset, wasZero: type === 'zero', maps };
    } finally {
      tables.release(slot);
    }
  }

  /** Restores an entry whose bytes could not be written. */
  async #takeBack(
    guestOffset: GuestOffset,
    { hostOffset, wasZero, maps }: Placed,
    length: number,
  ): Promise<void> {
    const { tables, refcounts, geometry } = this.#core;
    const slot = await tables.acquireForWriting(guestOffset);
    try {
      const slice = tables.view(slot);
      const word = tables.indexInSlice(guestOffset) * geometry.entryWords;
      tables.markEntries(slot, tables.indexInSlice(guestOffset), 1);
      if (wasZero) setZeroAt(slice, word);
      else clearAt(slice, word);
      if (maps !== undefined) setMapsAt(slice, word, maps);
    } finally {
      tables.release(slot);
    }
    await refcounts.free(hostOffset, length, 'keep');
  }

  #wouldOverwrite(guestOffset: GuestOffset): Qcow2BenchError {
    return new Qcow2BenchError(
      'qcow2-compressed-overwrite',
      `guest offset ${hex(guestOffset)} is already allocated: a compressed write cannot overwrite it; discard it first, or write it uncompressed`,
      { path: this.#core.header.device.path },
    );
  }
}

/**
 * Empties the maps of an extended entry, as a compressed cluster has them; answers what they were.
 */
function takeMaps(slice: DataView, word: number): SubclusterMaps {
  const maps = { allocated: allocatedMapAt(slice, word), zero: zeroMapAt(slice, word) };
  setMapsAt(slice, word, { allocated: 0, zero: 0 });
  return maps;
}

/** A whole cluster: what the disk's end cuts off reads as zeroes. */
function padded(bytes: Uint8Array, clusterSize: number): Uint8Array {
  if (bytes.byteLength === clusterSize) return bytes;
  const cluster = new Uint8Array(clusterSize);
  cluster.set(bytes);
  return cluster;
}
