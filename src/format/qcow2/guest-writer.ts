/**
 * One guest write from request to linked clusters: map, write data, link; for a request that goes to several
 * host ranges, in the interleaving of QEMU's tasks.
 *
 * QEMU maps extent after extent in the request's coroutine and gives each to one of up to eight tasks, which
 * write its data and then link it. A task that has its data written waits for the metadata lock; it gets it
 * when mapping has to wait itself: for metadata I/O, or for a task to end. Which metadata writes stand
 * between two syncs depends on that order, so it is kept here, with the data of an extent taken as written
 * before the next metadata operation ends.
 *
 * Invariants:
 * - Only a request that is alone has data that count as under way: every sync covers what others have done.
 * - Whatever fails, every extent is either linked or its clusters are given back.
 * - A request of one extent whose tables are in the caches makes no promise: it is done when `write` answers.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import type { Mutex } from '../../core/mutex.ts';
import type { Pending } from '../../device/block-device.ts';
import type { Allocation, Extent, WriteMapper } from './allocation.ts';
import type { DataWriter } from './data-writer.ts';
import type { MetadataDevice } from './metadata-device.ts';

/** How many extents of one request are under way at most. */
const EXTENTS_MAX = 8;

export interface GuestWriterOptions {
  readonly metadataDevice: MetadataDevice;
  readonly mapper: WriteMapper;
  readonly writer: DataWriter;
  readonly lock: Mutex;
}

export class GuestWriter {
  /** Guest writes so far that allocated a cluster. */
  allocatingWrites = 0;
  readonly #metadataDevice: MetadataDevice;
  readonly #mapper: WriteMapper;
  readonly #writer: DataWriter;
  readonly #lock: Mutex;
  /** Requests so far that may change the file or ask for a sync. */
  #requests = 0;
  /** How many there were when a write began while no other was under way; the last such. */
  #aloneAt = -1;
  /** Writes that answered a promise and are not done. */
  #unfinished = 0;

  constructor(options: GuestWriterOptions) {
    this.#metadataDevice = options.metadataDevice;
    this.#mapper = options.mapper;
    this.#writer = options.writer;
    this.#lock = options.lock;
  }

  write(guestOffset: number, bytes: Uint8Array): Pending {
    this.noteRequest();
    if (this.#unfinished === 0) this.#aloneAt = this.#requests;
    const extent = this.#map(guestOffset, bytes.byteLength);
    const pending =
      extent instanceof Promise
        ? this.#writeMapped(extent, guestOffset, bytes)
        : this.#writeFrom(extent, guestOffset, bytes);
    return pending === undefined ? undefined : this.#finishAfter(pending);
  }

  /** Another request begins: what data are under way can no longer be told from its changes. */
  noteRequest(): void {
    this.#requests++;
    this.#metadataDevice.setUnderWay(0);
  }

  async #finishAfter(pending: Promise<void>): Promise<void> {
    this.#unfinished++;
    try {
      await pending;
    } finally {
      this.#unfinished--;
    }
  }

  async #writeMapped(mapping: Promise<Extent>, guestOffset: number, bytes: Uint8Array): Promise<void> {
    await this.#writeFrom(await mapping, guestOffset, bytes);
  }

  /** Writes a request whose first extent is mapped. */
  #writeFrom(extent: Extent, guestOffset: number, bytes: Uint8Array): Pending {
    if (extent.length < bytes.byteLength) return this.#writeExtents(extent, guestOffset, bytes);
    let pending: Pending;
    try {
      pending = this.#writer.writeData(extent, bytes);
    } catch (error) {
      return this.#giveUpAndThrow(extent, error);
    }
    if (pending !== undefined) return this.#linkAfter(pending, extent);
    return this.#linkWritten(extent);
  }

  async #linkAfter(pending: Promise<void>, extent: Extent): Promise<void> {
    try {
      await pending;
    } catch (error) {
      await this.#giveUp(extent);
      throw error;
    }
    await this.#linkWritten(extent);
  }

  #linkWritten(extent: Extent): Pending {
    if (extent.allocations.length === 0) return undefined;
    const pending = this.#link(extent);
    if (pending !== undefined) return this.#countAfter(pending, extent);
    if (allocates(extent)) this.allocatingWrites++;
    return undefined;
  }

  async #countAfter(pending: Promise<void>, extent: Extent): Promise<void> {
    await pending;
    if (allocates(extent)) this.allocatingWrites++;
  }

  async #writeExtents(first: Extent, guestOffset: number, bytes: Uint8Array): Promise<void> {
    /** Extents whose data is written and that are not yet linked, the oldest first. */
    const underWay: Extent[] = [];
    /** The extent that was mapped last, until it is one of those. */
    let mapped: Extent | undefined = first;
    let mappingWaited = false;
    let allocated = false;
    let done = 0;
    /** Changes of data since metadata was last worked on: QEMU maps on while they are under way. */
    let changes = 0;
    try {
      for (;;) {
        allocated ||= allocates(mapped);
        if (underWay.length === EXTENTS_MAX) {
          mappingWaited = (await this.#linkOldest(underWay)) || mappingWaited;
        }
        const { imageChanges } = this.#writer;
        await this.#writer.writeData(mapped, bytes.subarray(done, done + mapped.length));
        changes += this.#writer.imageChanges - imageChanges;
        // Those before this one were waiting for the lock while mapping waited; its own data are under way meanwhile.
        if (mappingWaited && (await this.#beside(changes, () => this.#linkAll(underWay)))) changes = 0;
        underWay.push(mapped);
        done += mapped.length;
        mapped = undefined;
        if (done === bytes.byteLength) break;
        const before = this.#metadataDevice.operationCount;
        const from = done;
        mapped = await this.#beside(changes, () => this.#map(guestOffset + from, bytes.byteLength - from));
        mappingWaited = this.#metadataDevice.operationCount > before;
        if (mappingWaited) changes = 0;
      }
      await this.#linkAll(underWay);
    } catch (error) {
      if (mapped !== undefined) await this.#giveUp(mapped);
      await this.#linkWhatCan(underWay);
      throw error;
    }
    if (allocated) this.allocatingWrites++;
  }

  /**
   * Works on metadata while the last `changes` of data are under way. They are the last only if no other request has
   * begun; else a sync that others need could be elided.
   */
  async #beside<T>(changes: number, work: () => T | Promise<T>): Promise<T> {
    this.#metadataDevice.setUnderWay(this.#aloneAt === this.#requests ? changes : 0);
    try {
      return await work();
    } finally {
      this.#metadataDevice.setUnderWay(0);
    }
  }

  /** Links them all; answers whether that did metadata I/O. */
  async #linkAll(underWay: Extent[]): Promise<boolean> {
    const before = this.#metadataDevice.operationCount;
    while (underWay.length > 0) await this.#linkOldest(underWay);
    return this.#metadataDevice.operationCount > before;
  }

  /** After a failure: data that is written is worth linking, even if another part of the request failed. */
  async #linkWhatCan(underWay: Extent[]): Promise<void> {
    while (underWay.length > 0) {
      try {
        await this.#linkOldest(underWay);
      } catch (error) {
        // It was given up; the request fails with the first error.
        if (!(error instanceof Qcow2BenchError)) throw error;
      }
    }
  }

  /** Links the extent that has been under way longest; answers whether that did metadata I/O. */
  async #linkOldest(underWay: Extent[]): Promise<boolean> {
    const before = this.#metadataDevice.operationCount;
    const oldest = underWay.shift();
    if (oldest !== undefined && oldest.allocations.length > 0) await this.#link(oldest);
    return this.#metadataDevice.operationCount > before;
  }

  #map(guestOffset: number, length: number): Extent | Promise<Extent> {
    const turn = this.#lock.acquire();
    if (turn !== undefined) return this.#mapInTurn(turn, guestOffset, length);
    let mapped: Extent | Promise<Extent>;
    try {
      mapped = this.#mapper.map(guestOffset, length);
    } catch (error) {
      this.#lock.release();
      throw error;
    }
    if (mapped instanceof Promise) return this.#releaseAfter(mapped);
    this.#lock.release();
    return mapped;
  }

  async #mapInTurn(turn: Promise<void>, guestOffset: number, length: number): Promise<Extent> {
    await turn;
    try {
      return await this.#mapper.map(guestOffset, length);
    } finally {
      this.#lock.release();
    }
  }

  async #releaseAfter<T>(pending: Promise<T>): Promise<T> {
    try {
      return await pending;
    } finally {
      this.#lock.release();
    }
  }

  async #giveUpAndThrow(extent: Extent, error: unknown): Promise<never> {
    await this.#giveUp(extent);
    throw error;
  }

  /** Frees what an extent had allocated. */
  async #giveUp(extent: Extent): Promise<void> {
    const pending = this.#lock.acquire();
    if (pending !== undefined) await pending;
    try {
      for (const allocation of extent.allocations) await this.#mapper.giveUp(allocation);
    } finally {
      this.#lock.release();
    }
  }

  #link(extent: Extent): Pending {
    const turn = this.#lock.acquire();
    if (turn !== undefined) return this.#linkInTurn(turn, extent);
    const pending = this.#linkFrom(extent, 0);
    if (pending !== undefined) return this.#releaseAfter(pending);
    this.#lock.release();
    return undefined;
  }

  async #linkInTurn(turn: Promise<void>, extent: Extent): Promise<void> {
    await turn;
    try {
      await this.#linkFrom(extent, 0);
    } finally {
      this.#lock.release();
    }
  }

  /** Links the allocations from `next` on; whatever cannot be linked is given up. */
  #linkFrom(extent: Extent, next: number): Pending {
    const { allocations } = extent;
    for (let index = next; index < allocations.length; index++) {
      let pending: Pending;
      try {
        pending = this.#writer.link(allocations[index] as Allocation);
      } catch (error) {
        return this.#giveUpRest(extent, index, error);
      }
      if (pending !== undefined) return this.#linkRest(pending, extent, index);
    }
    return undefined;
  }

  async #linkRest(pending: Promise<void>, extent: Extent, index: number): Promise<void> {
    try {
      await pending;
    } catch (error) {
      await this.#giveUpRest(extent, index, error);
    }
    await this.#linkFrom(extent, index + 1);
  }

  async #giveUpRest(extent: Extent, first: number, error: unknown): Promise<never> {
    for (const allocation of extent.allocations.slice(first)) await this.#mapper.giveUp(allocation);
    throw error;
  }
}

function allocates(extent: Extent): boolean {
  for (const allocation of extent.allocations) if (!allocation.keepsClusters) return true;
  return false;
}
