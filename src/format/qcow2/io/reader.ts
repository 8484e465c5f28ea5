/**
 * Looking up where guest bytes lie, and reading them.
 *
 * Invariants: nothing is changed but the corrupt bit; an entry that breaks a rule of the format is
 * an error, never a read of something else.
 */

import { alignDown, isAligned, remainder } from '../../../core/alignment.ts';
import { emptyWordsEnd } from '../../../core/bytes.ts';
import { Qcow2BenchError, hex } from '../../../core/error.ts';
import type { GuestOffset, HostOffset } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import type { Purpose } from '../../../device/purpose.ts';
import { readFromBacking } from '../../backing-read.ts';
import type { MappingKind } from '../../disk-image.ts';
import { clusterCodec } from '../compression/compression.ts';
import type { SubclusterType } from '../on-disk/extended-l2-entry.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import {
  clusterTypeAt,
  compressedRangeAt,
  hostOffsetAt,
  type ClusterType,
  type CompressedRange,
} from '../on-disk/l2-entry.ts';
import { lookUpSubclusters } from './subcluster-lookup.ts';

/**
 * A guest range whose clusters are of one type and, if they have host clusters, contiguous there.
 */
export interface GuestRange {
  readonly type: Exclude<SubclusterType, 'invalid'>;
  /** Bytes. */
  readonly length: number;
  /** Host offset of the first byte; 0 where there is none. */
  readonly hostOffset: HostOffset;
  readonly compressed: CompressedRange | undefined;
}

/** What a range is to those who ask for a map. */
export const MAPPING_KIND: Readonly<Record<GuestRange['type'], MappingKind>> = {
  unallocated: 'unallocated',
  'unallocated-kept': 'unallocated',
  zero: 'zero',
  'zero-allocated': 'zero',
  normal: 'data',
  compressed: 'compressed',
};

/** An entry that breaks a rule. */
interface Damage {
  readonly code: string;
  /** What the entry does, in words. */
  readonly what: string;
  readonly guestOffset: GuestOffset;
  /** As in QEMU, damage that a write could spread stops an image that is open for writing. */
  readonly stops: boolean;
}

export class Reader {
  readonly #core: ImageCore;
  readonly #lookUp = (guestOffset: GuestOffset, length: number): Promise<GuestRange> =>
    this.lookUp(guestOffset, length);

  constructor(core: ImageCore) {
    this.#core = core;
  }

  /**
   * The longest range from `guestOffset`, within `length` and one L2 slice, of which one thing can
   * be said.
   */
  async lookUp(guestOffset: GuestOffset, length: number): Promise<GuestRange> {
    const { tables, geometry } = this.#core;
    const { clusterSize } = geometry;
    const limit = Math.min(length, tables.bytesToSliceEnd(guestOffset));
    const acquired = tables.acquire(guestOffset);
    const slot = typeof acquired === 'number' ? acquired : await acquired;
    if (slot < 0) return { type: 'unallocated', length: limit, hostOffset: 0, compressed: undefined };
    try {
      const slice = tables.view(slot);
      const first = tables.indexInSlice(guestOffset);
      if (geometry.entryWords === 2) {
        return await this.#lookUpExtended(slice, { guestOffset, entry: first, limit });
      }
      const type = clusterTypeAt(slice, first);
      const damage = this.#damageOf(slice, first, type, guestOffset);
      if (damage !== undefined) return await this.#refuse(damage);
      const offsetInCluster = remainder(guestOffset, clusterSize);
      const wanted = Math.ceil((offsetInCluster + limit) / clusterSize);
      const host = hostOffsetAt(slice, first);
      const hasHost = type === 'normal' || type === 'zero-allocated';
      const isEmpty = type === 'unallocated';
      let count = isEmpty ? Math.max(1, emptyWordsEnd(slice, first, first + wanted) - first) : 1;
      while (
        type !== 'compressed' &&
        count < wanted &&
        clusterTypeAt(slice, first + count) === type &&
        (!hasHost || hostOffsetAt(slice, first + count) === host + count * clusterSize)
      ) {
        count++;
      }
      return {
        type,
        length: Math.min(limit, count * clusterSize - offsetInCluster),
        hostOffset: hasHost ? host + offsetInCluster : 0,
        compressed: type === 'compressed' ? compressedRangeAt(slice, first, geometry.clusterBits) : undefined,
      };
    } finally {
      tables.release(slot);
    }
  }

  /**
   * As `lookUp`, for who wants to know and not to read: with `far`, or with nothing behind the
   * image, what no L2 table maps is one range. An L1 table may have four million empty entries.
   */
  async lookUpFar(guestOffset: GuestOffset, length: number, far = false): Promise<GuestRange> {
    const { tables, backing } = this.#core;
    const range = await this.lookUp(guestOffset, length);
    if (range.type !== 'unallocated' || (!far && backing !== undefined)) return range;
    return {
      ...range,
      length: Math.max(range.length, tables.bytesWithoutTable(guestOffset, length)),
    };
  }

  async #lookUpExtended(
    slice: DataView,
    place: { readonly guestOffset: GuestOffset; readonly entry: number; readonly limit: number },
  ): Promise<GuestRange> {
    const { geometry } = this.#core;
    const { type, length, hostOffset } = lookUpSubclusters(slice, place, geometry);
    if (type === 'invalid') {
      return this.#refuse({
        code: 'qcow2-bad-subclusters',
        what: 'has a subcluster that is both allocated and zero, or allocated in no cluster',
        guestOffset: place.guestOffset,
        stops: true,
      });
    }
    const word = 2 * place.entry;
    const damage = this.#damageOf(slice, word, clusterTypeAt(slice, word), place.guestOffset);
    if (damage !== undefined) return this.#refuse(damage);
    const compressed =
      type === 'compressed' ? compressedRangeAt(slice, word, geometry.clusterBits) : undefined;
    return { type, length, hostOffset, compressed };
  }

  /** Reads guest bytes; what is past the disk's end reads as zeroes. */
  async read(guestOffset: GuestOffset, target: Uint8Array, purpose: Purpose): Promise<void> {
    let done = 0;
    while (done < target.byteLength) {
      const range = await this.#core.lock.hold(this.#lookUp, guestOffset + done, target.byteLength - done);
      await this.#readRange(range, guestOffset + done, target.subarray(done, done + range.length), purpose);
      done += range.length;
    }
  }

  async #readRange(
    range: GuestRange,
    guestOffset: GuestOffset,
    target: Uint8Array,
    purpose: Purpose,
  ): Promise<void> {
    switch (range.type) {
      case 'zero':
      case 'zero-allocated':
        target.fill(0);
        return;
      case 'unallocated':
      case 'unallocated-kept': {
        const pending = readFromBacking(this.#core.backing, guestOffset, target);
        if (pending !== undefined) await pending;
        return;
      }
      case 'normal': {
        const pending = this.#core.guestFile.read(range.hostOffset, target, purpose);
        if (pending !== undefined) await pending;
        return;
      }
      case 'compressed':
        await this.#readCompressed(range, guestOffset, target, purpose);
    }
  }

  /** Reads and unpacks a whole compressed cluster, as QEMU does at every read. */
  async #readCompressed(
    range: GuestRange,
    guestOffset: GuestOffset,
    target: Uint8Array,
    purpose: Purpose,
  ): Promise<void> {
    const { geometry, header, guestFile } = this.#core;
    const { clusterSize } = geometry;
    const { hostOffset, length } = range.compressed ?? { hostOffset: 0, length: 0 };
    const stored = allocatePages(length);
    const pending = guestFile.read(hostOffset, stored, purpose);
    if (pending !== undefined) await pending;
    const isWhole = target.byteLength === clusterSize;
    const cluster = isWhole ? target : new Uint8Array(clusterSize);
    const type = header.values.compressionType;
    if (!clusterCodec(type).decompress(stored, cluster)) {
      throw new Qcow2BenchError(
        'qcow2-bad-compressed-cluster',
        `the compressed cluster of guest offset ${hex(guestOffset - remainder(guestOffset, clusterSize))} is not a ${type} stream of exactly ${String(clusterSize)} bytes; the image is damaged`,
        { path: guestFile.path, offset: hostOffset },
      );
    }
    const from = remainder(guestOffset, clusterSize);
    if (!isWhole) target.set(cluster.subarray(from, from + target.byteLength));
  }

  /** What is wrong with an entry. */
  #damageOf(slice: DataView, word: number, type: ClusterType, guestOffset: GuestOffset): Damage | undefined {
    const { geometry, header } = this.#core;
    if ((type === 'zero' || type === 'zero-allocated') && header.values.version < 3) {
      const what = 'has the zero flag, which version 2 does not have';
      return { code: 'qcow2-zero-flag-in-v2', what, guestOffset, stops: true };
    }
    if (type === 'compressed' && header.hasDataFile) {
      const what = 'is compressed, which is not allowed with an external data file';
      return { code: 'qcow2-compressed-in-data-file', what, guestOffset, stops: true };
    }
    if (type !== 'normal' && type !== 'zero-allocated') return undefined;
    const hostOffset = hostOffsetAt(slice, word);
    if (!header.hasDataFile && type === 'normal' && hostOffset === 0) {
      const what = 'points to the header';
      return { code: 'qcow2-data-on-header', what, guestOffset, stops: false };
    }
    if (header.hasDataFile && hostOffset !== alignDown(guestOffset, geometry.clusterSize)) {
      const what = `points to ${hex(hostOffset)} of the data file instead of the same offset`;
      return { code: 'qcow2-misplaced-data', what, guestOffset, stops: true };
    }
    if (!isAligned(hostOffset, geometry.clusterSize)) {
      const what = `points to ${hex(hostOffset)}, which is not a multiple of the cluster size`;
      return { code: 'qcow2-unaligned-cluster', what, guestOffset, stops: true };
    }
    if (Number.isSafeInteger(hostOffset)) return undefined;
    const what = `points to ${hex(hostOffset)}, above 2^53 − 1`;
    return { code: 'qcow2-offset-too-large', what, guestOffset, stops: false };
  }

  async #refuse({ code, what, guestOffset, stops }: Damage): Promise<never> {
    const { header } = this.#core;
    const message = `the L2 entry of guest offset ${hex(guestOffset)} ${what}; check the image`;
    const error = new Qcow2BenchError(code, message, { path: header.device.path });
    if (stops) await header.markCorrupt(error);
    throw error;
  }
}
