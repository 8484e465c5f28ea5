/**
 * One guest write from request to linked clusters: map, write data, link; for a request that goes
 * to several host ranges, in the interleaving of QEMU's tasks.
 *
 * QEMU maps extent after extent in the request's coroutine and gives each to one of up to eight
 * tasks, which write its data and then link it. A task that has its data written waits for the
 * metadata lock; it gets it when mapping has to wait itself: for metadata I/O, or for a task to
 * end. Which metadata writes stand between two syncs depends on that order, so it is kept here,
 * with the data of an extent taken as written before the next metadata operation ends.
 *
 * Invariants:
 * - Only a request that is alone has data that count as in flight: every sync covers what others
 *   have done.
 * - Whatever fails, every extent is either linked or its clusters are given back.
 * - A request of one extent whose tables are in the caches makes no promise: it is done when
 *   `write` answers.
 */

import { Qcow2BenchError } from '../../../core/error.ts';
import type { Mutex } from '../../../core/mutex.ts';
import type { GuestOffset } from '../../../core/offsets.ts';
import { after, andFinally, settle, type MaybePromise, type Pending } from '../../../core/pending.ts';
import type { Allocation, Extent, WriteMapper } from './write-mapper.ts';
import type { DataWriter } from './data-writer.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import type { MetadataDevice } from '../metadata/metadata-device.ts';

/** How many extents of one request are in flight at most. */
const EXTENTS_MAX = 8;

export class GuestWriter {
  /** Guest writes so far that allocated a cluster. */
  allocatingWrites = 0;
  readonly #metadataDevice: MetadataDevice;
  readonly #mapper: WriteMapper;
  readonly #writer: DataWriter;
  readonly #lock: Mutex;
  /** Requests so far that may change the file or ask for a sync. */
  #requests = 0;
  /** How many there were when a write began while no other was in flight; the last such. */
  #aloneAt = -1;
  /** Writes that answered a promise and are not done. */
  #unfinished = 0;

  constructor(core: ImageCore, mapper: WriteMapper, writer: DataWriter) {
    this.#metadataDevice = core.metadataDevice;
    this.#lock = core.lock;
    this.#mapper = mapper;
    this.#writer = writer;
  }

  write(guestOffset: GuestOffset, bytes: Uint8Array): Pending {
    this.noteRequest();
    if (this.#unfinished === 0) this.#aloneAt = this.#requests;
    const extent = this.#lock.hold(this.#map, guestOffset, bytes.byteLength);
    const pending =
      extent instanceof Promise
        ? after(extent, this.#writeFrom.bind(this, guestOffset, bytes))
        : this.#writeFrom(guestOffset, bytes, extent);
    if (pending === undefined) return undefined;
    this.#unfinished++;
    return andFinally(pending, this.#finish);
  }

  /** Another request begins: what data are in flight can no longer be derived from its changes. */
  noteRequest(): void {
    this.#requests++;
    this.#metadataDevice.setInFlight(0);
  }

  readonly #finish = (): void => {
    this.#unfinished--;
  };

  /** Writes a request whose first extent is mapped. */
  #writeFrom(guestOffset: GuestOffset, bytes: Uint8Array, extent: Extent): Pending {
    if (extent.length < bytes.byteLength) return this.#writeExtents(extent, guestOffset, bytes);
    let pending: Pending;
    try {
      pending = this.#writer.writeData(extent, bytes);
    } catch (error) {
      return this.#abortAndThrow(extent, error);
    }
    if (pending === undefined) return this.#linkWritten(extent);
    return settle(pending, this.#linkWritten.bind(this, extent), this.#abortAndThrow.bind(this, extent));
  }

  #linkWritten(extent: Extent): Pending {
    if (extent.allocations.length === 0) return undefined;
    const pending = this.#lock.hold(this.#link, extent, 0);
    if (pending !== undefined) {
      return after(pending, this.#count.bind(this, extent));
    }
    this.#count(extent);
    return undefined;
  }

  #count(extent: Extent): void {
    if (allocates(extent)) this.allocatingWrites++;
  }

  async #writeExtents(first: Extent, guestOffset: GuestOffset, bytes: Uint8Array): Promise<void> {
    /** Extents whose data is written and that are not yet linked, the oldest first. */
    const underWay: Extent[] = [];
    /** The extent that was mapped last, until it is one of those. */
    let mapped: Extent | undefined = first;
    let mappingWaited = false;
    let allocated = false;
    let done = 0;
    /** Changes of data since metadata was last worked on: QEMU maps on while they are in flight. */
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
        // Those before this one were waiting for the lock while mapping waited; its own data are in
        // flight meanwhile.
        if (mappingWaited && (await this.#withDataInFlight(changes, () => this.#linkAll(underWay)))) {
          changes = 0;
        }
        underWay.push(mapped);
        done += mapped.length;
        mapped = undefined;
        if (done === bytes.byteLength) break;
        const before = this.#metadataDevice.operationCount;
        const from = done;
        mapped = await this.#withDataInFlight(changes, () =>
          this.#lock.hold(this.#map, guestOffset + from, bytes.byteLength - from),
        );
        mappingWaited = this.#metadataDevice.operationCount > before;
        if (mappingWaited) changes = 0;
      }
      await this.#linkAll(underWay);
    } catch (error) {
      if (mapped !== undefined) await this.#abort(mapped);
      await this.#linkWhatCan(underWay);
      throw error;
    }
    if (allocated) this.allocatingWrites++;
  }

  /**
   * Works on metadata while the last `changes` of data are in flight. They are the last only if no
   * other request has begun; else a sync that others need could be elided.
   */
  async #withDataInFlight<T>(changes: number, work: () => MaybePromise<T>): Promise<T> {
    this.#metadataDevice.setInFlight(this.#aloneAt === this.#requests ? changes : 0);
    try {
      return await work();
    } finally {
      this.#metadataDevice.setInFlight(0);
    }
  }

  /** Links them all; answers whether that did metadata I/O. */
  async #linkAll(underWay: Extent[]): Promise<boolean> {
    const before = this.#metadataDevice.operationCount;
    while (underWay.length > 0) await this.#linkOldest(underWay);
    return this.#metadataDevice.operationCount > before;
  }

  /**
   * After a failure: data that is written is worth linking, even if another part of the request
   * failed.
   */
  async #linkWhatCan(underWay: Extent[]): Promise<void> {
    while (underWay.length > 0) {
      try {
        await this.#linkOldest(underWay);
      } catch (error) {
        // Its clusters are freed; the request fails with the first error.
        if (!(error instanceof Qcow2BenchError)) throw error;
      }
    }
  }

  /** Links the extent that has been in flight longest; answers whether that did metadata I/O. */
  async #linkOldest(underWay: Extent[]): Promise<boolean> {
    const before = this.#metadataDevice.operationCount;
    const oldest = underWay.shift();
    if (oldest !== undefined && oldest.allocations.length > 0) await this.#lock.hold(this.#link, oldest, 0);
    return this.#metadataDevice.operationCount > before;
  }

  /** With the lock held. */
  readonly #map = (guestOffset: GuestOffset, length: number): MaybePromise<Extent> =>
    this.#mapper.map(guestOffset, length);

  /**
   * With the lock held: links the allocations from `first` on; those that cannot be linked are
   * aborted.
   */
  readonly #link = (extent: Extent, first: number): Pending => {
    const { allocations } = extent;
    for (let index = first; index < allocations.length; index++) {
      let pending: Pending;
      try {
        pending = this.#writer.link(allocations[index] as Allocation);
      } catch (error) {
        return this.#abortRest(extent, index, error);
      }
      if (pending === undefined) continue;
      return settle(
        pending,
        this.#link.bind(this, extent, index + 1),
        this.#abortRest.bind(this, extent, index),
      );
    }
    return undefined;
  };

  async #abortAndThrow(extent: Extent, error: unknown): Promise<never> {
    await this.#abort(extent);
    throw error;
  }

  /** Frees what an extent had allocated. */
  async #abort(extent: Extent): Promise<void> {
    await this.#lock.hold(async () => {
      for (const allocation of extent.allocations) await this.#mapper.abortAllocation(allocation);
    });
  }

  async #abortRest(extent: Extent, first: number, error: unknown): Promise<never> {
    for (const allocation of extent.allocations.slice(first)) await this.#mapper.abortAllocation(allocation);
    throw error;
  }
}

function allocates(extent: Extent): boolean {
  for (const allocation of extent.allocations) if (!allocation.keepsClusters) return true;
  return false;
}
