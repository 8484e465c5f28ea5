/**
 * Guest requests that make a range read as zeroes, by the tables where they can say it and with
 * written zeroes where they cannot, and guest discards.
 *
 * Invariants: nothing outside of the range changes; a raw data file read on its own has the zeroes
 * too.
 */

import { alignDown, alignUp } from '../../../core/alignment.ts';
import type { GuestOffset } from '../../../core/offsets.ts';
import type { DiskImage } from '../../disk-image.ts';
import { isZeroInPieces } from '../../known-zero.ts';
import { zeroBytes, zeroOrWrite } from '../../real-zeroes.ts';
import type { Discarder } from './discard.ts';
import type { GuestWriter } from './guest-writer.ts';
import type { ImageCore } from '../metadata/image-core.ts';

/** The largest write of zeroes where no shorter way to say it exists. */
const ZERO_WRITE_MAX = 16 * 1024 * 1024;

export class ZeroRequests {
  readonly #core: ImageCore;
  /** The image itself, for what its backing chain and its own tables say of a range. */
  readonly #image: DiskImage;
  readonly #discarder: Discarder;
  readonly #writer: GuestWriter;

  constructor(core: ImageCore, image: DiskImage, discarder: Discarder, writer: GuestWriter) {
    this.#core = core;
    this.#image = image;
    this.#discarder = discarder;
    this.#writer = writer;
  }

  /** Head and tail that do not fill a (sub)cluster go on their own, what is between in one go. */
  async writeZeroes(guestOffset: GuestOffset, length: number, unmap: boolean): Promise<void> {
    const { subclusterSize } = this.#core.geometry;
    const end = guestOffset + length;
    let at = guestOffset;
    while (at < end) {
      const stop =
        at % subclusterSize === 0
          ? alignDown(end, subclusterSize)
          : Math.min(end, alignUp(at, subclusterSize));
      const part = stop > at ? stop - at : end - at;
      if (!(await this.#zeroByTables(at, part, unmap))) await this.#writeZeroBytes(at, part);
      at += part;
    }
  }

  async discard(guestOffset: GuestOffset, length: number): Promise<void> {
    const { header, geometry, backing, virtualSize, lock } = this.#core;
    const { clusterSize } = geometry;
    // Without a zero flag, a discarded cluster would let stale data of the backing file show
    // through.
    if (header.values.version < 3 && backing !== undefined) return;
    const end = guestOffset + length;
    const first = alignUp(guestOffset, clusterSize);
    const last = alignDown(end, clusterSize);
    const whole = (last - first) / clusterSize;
    if (whole > 0) await lock.hold(() => this.#discarder.discard({ guestOffset: first, clusters: whole }));
    // A part of a cluster is left alone, but for the one that the end of the disk cuts off.
    if (end > last && end === virtualSize && guestOffset <= last) {
      await lock.hold(() => this.#discarder.discard({ guestOffset: last, clusters: 1 }));
    }
  }

  /**
   * Sets zero flags for part of one cluster or for whole clusters; false if the tables cannot say
   * it.
   */
  async #zeroByTables(guestOffset: GuestOffset, length: number, unmap: boolean): Promise<boolean> {
    const { header, geometry, refcounts, device, backing, virtualSize, lock } = this.#core;
    const { clusterSize, subclusterSize, entryWords } = geometry;
    const image = this.#image;
    const discarder = this.#discarder;
    const first = alignDown(guestOffset, subclusterSize);
    const end = guestOffset + length;
    const last = end === virtualSize ? end : alignUp(end, subclusterSize);
    if (first !== guestOffset || last !== end) {
      // As QEMU does before it first asks what a part of a cluster is.
      await lock.hold(() => refcounts.scanOnce(device));
      if (guestOffset > first && !(await isZeroInPieces(image, first, guestOffset - first))) return false;
      if (last > end && !(await isZeroInPieces(image, end, Math.min(last, virtualSize) - end))) return false;
      const { kind } = await image.map(first, subclusterSize);
      if (kind === 'data' || kind === 'compressed') return false;
    }
    // Version 2 has no zero flag: an unallocated cluster reads as zeroes where no backing file
    // shows through. QEMU finds that out only after it looked at the parts around, which brings
    // their L2 slices into the cache.
    const hasFlag = header.values.version >= 3;
    if (!hasFlag && backing !== undefined) return false;
    if (header.isDataFileRaw) await this.#zeroDataFile(first, last - first, unmap);
    if (entryWords === 2) return lock.hold(() => discarder.writeZeroesTo(first, last, unmap));
    const clusters = (alignUp(end, clusterSize) - first) / clusterSize;
    const range = { guestOffset: first, clusters };
    await lock.hold(() => (hasFlag ? discarder.writeZeroes(range, unmap) : discarder.discard(range)));
    return true;
  }

  async #zeroDataFile(offset: number, length: number, unmap: boolean): Promise<void> {
    const { dataFile } = this.#core;
    if (dataFile === undefined) return;
    await zeroOrWrite(dataFile, offset, length, { purpose: 'data', mayUnmap: unmap });
  }

  async #writeZeroBytes(guestOffset: GuestOffset, length: number): Promise<void> {
    for (let done = 0; done < length; done += ZERO_WRITE_MAX) {
      const bytes = zeroBytes(Math.min(length - done, ZERO_WRITE_MAX));
      await this.#writer.write(guestOffset + done, bytes);
    }
  }
}
