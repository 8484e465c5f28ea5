/**
 * An open QED image: guest requests become runs of clusters, read and written in place or
 * allocated.
 *
 * Invariants:
 * - A request is served run by run, in order, as QEMU does.
 * - Allocating writes run one at a time. A request takes the turn when it meets its first cluster
 *   to allocate and keeps it to its end; once it has the turn it looks again, for the cluster may
 *   have been allocated while it waited. In-place writes and reads need no turn, except where a
 *   table is still on its way to the file.
 * - Tables are written through, so a flush has nothing to write: it is a sync.
 */

import { assertInvariant, Qcow2BenchError } from '../../core/error.ts';
import { Mutex } from '../../core/mutex.ts';
import type { GuestOffset } from '../../core/offsets.ts';
import { after, type Pending } from '../../core/pending.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import type { SyncCause } from '../../device/purpose.ts';
import { readFromBacking } from '../backing-read.ts';
import type { DiskImage, Mapping } from '../disk-image.ts';
import type { EnginePolicy } from '../engine-policy.ts';
import type { OpenOptions } from '../image-options.ts';
import type { Preallocation } from '../image-shape.ts';
import { writeRealZeroes, zeroBytes } from '../real-zeroes.ts';
import { Allocation } from './allocation.ts';
import { ClusterRun } from './cluster-run.ts';
import type { QedGeometry } from './geometry.ts';
import { checkVirtualSize } from './header.ts';
import type { QedHeaderFile } from './header-file.ts';
import type { HostSpace } from './host-space.ts';
import type { QedTables } from './tables.ts';

export interface QedImageOptions {
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  readonly readPurpose: OpenOptions['readPurpose'];
  /** Bytes. */
  readonly virtualSize: number;
  readonly geometry: QedGeometry;
  readonly space: HostSpace;
  readonly tables: QedTables;
  readonly header: QedHeaderFile;
  readonly backing: DiskImage | undefined;
  /** The image needs a check that opening did not make, so closing must not call it clean. */
  readonly keepNeedCheck: boolean;
  readonly policy: EnginePolicy;
}

/**
 * Real zeroes around whole zero clusters are written in pieces of this, like QEMU's bounce buffer.
 */
const ZERO_PIECE = 16 * 1024 * 1024;

export class QedImage implements DiskImage {
  readonly format = 'qed';
  readonly clusterSize: number;
  readonly backing: DiskImage | undefined;
  readonly #device: BlockDevice;
  readonly #readOnly: boolean;
  readonly #readPurpose: OpenOptions['readPurpose'];
  readonly #header: QedHeaderFile;
  readonly #keepNeedCheck: boolean;
  readonly #run: ClusterRun;
  readonly #allocation: Allocation;
  readonly #tables: QedTables;
  readonly #turn = new Mutex();
  readonly #geometry: QedGeometry;
  #virtualSize: number;
  #allocatingWrites = 0;
  /** The write that has the turn is one of them. */
  #isCounted = false;
  #closed = false;

  constructor(options: QedImageOptions) {
    this.#geometry = options.geometry;
    this.#virtualSize = options.virtualSize;
    this.clusterSize = options.geometry.clusterSize;
    this.#device = options.device;
    this.#readOnly = options.readOnly;
    this.#readPurpose = options.readPurpose;
    this.#header = options.header;
    this.backing = options.backing;
    this.#keepNeedCheck = options.keepNeedCheck;
    this.#run = new ClusterRun({ ...options, path: options.device.path });
    this.#allocation = new Allocation(options);
    this.#tables = options.tables;
  }

  get virtualSize(): number {
    return this.#virtualSize;
  }

  get allocatingWrites(): number {
    return this.#allocatingWrites;
  }

  get metadataInMemory(): number {
    return this.#tables.byteLength;
  }

  read(guestOffset: GuestOffset, target: Uint8Array): Pending {
    return this.#read(guestOffset, target, 0);
  }

  write(guestOffset: GuestOffset, bytes: Uint8Array): Pending {
    assertInvariant(!this.#readOnly, 'write to a QED image opened read-only');
    return this.#write(guestOffset, bytes.byteLength, bytes, 0, false);
  }

  /**
   * Whole clusters become zero clusters, or zeroes in place where they have data; the rest gets
   * real zeroes.
   */
  async writeZeroes(guestOffset: GuestOffset, length: number): Promise<void> {
    assertInvariant(!this.#readOnly, 'write-zeroes to a QED image opened read-only');
    const { clusterSize } = this;
    const end = guestOffset + length;
    let at = guestOffset;
    while (at < end) {
      const offsetInCluster = at % clusterSize;
      const whole = Math.floor((end - at) / clusterSize) * clusterSize;
      if (offsetInCluster === 0 && whole > 0) {
        await this.#write(at, whole, undefined, 0, false);
        at += whole;
      } else {
        const piece = Math.min(clusterSize - offsetInCluster, end - at, ZERO_PIECE);
        await this.#write(at, piece, zeroBytes(piece), 0, false);
        at += piece;
      }
    }
  }

  /** Nothing: QED cannot give clusters back. */
  discard(_guestOffset: number, _length: number): Pending {
    assertInvariant(!this.#readOnly, 'discard in a QED image opened read-only');
    return undefined;
  }

  flush(cause: SyncCause): Pending {
    return this.#device.sync(cause);
  }

  /**
   * Only larger, without space for what is new, and not where a backing file would show through: as
   * QEMU has it.
   *
   * @throws Qcow2BenchError `qed-no-shrink`, `qed-no-preallocation`, `qed-backing-would-show`,
   *   `qed-bad-image-size`
   */
  async resize(virtualSize: number, preallocation: Preallocation = 'off'): Promise<void> {
    assertInvariant(!this.#readOnly, 'resize of a QED image opened read-only');
    const { path } = this.#device;
    const refuse = (code: string, rule: string): never => {
      throw new Qcow2BenchError(code, `${rule}: convert the image to qcow2`, { path });
    };
    if (virtualSize < this.virtualSize) refuse('qed-no-shrink', 'QED images cannot be shrunk');
    if (preallocation !== 'off') refuse('qed-no-preallocation', 'QED has no preallocation');
    if (this.backing !== undefined && this.backing.virtualSize > this.virtualSize) {
      refuse(
        'qed-backing-would-show',
        'growing this QED image would expose backing file data beyond its old end',
      );
    }
    checkVirtualSize(virtualSize, this.#geometry, { path });
    await this.#header.rewriteSize(virtualSize);
    this.#virtualSize = virtualSize;
  }

  async map(guestOffset: GuestOffset, length: number): Promise<Mapping> {
    const run = this.#run;
    for (;;) {
      const loading = run.find(guestOffset, length);
      if (loading === undefined) break;
      await loading;
    }
    switch (run.kind) {
      case 'data':
        return { kind: 'data', length: run.length, hostOffset: run.hostOffset };
      case 'zero':
        return { kind: 'zero', length: run.length, hostOffset: undefined };
      case 'unallocated':
      case 'no-table':
        return { kind: 'unallocated', length: run.length, hostOffset: undefined };
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      if (!this.#readOnly) await this.#markClean();
    } finally {
      await this.#device.close();
      await this.backing?.close();
    }
  }

  async abandon(): Promise<void> {
    this.#closed = true;
    await this.#device.close();
    await this.backing?.abandon();
  }

  async #markClean(): Promise<void> {
    const header = this.#header;
    if (header.needCheck && !this.#keepNeedCheck) {
      await this.#device.sync('dirty-bit');
      await header.readSector();
      await header.writeSector(false);
      header.settle(false);
    }
    await this.#device.sync('close');
  }

  #read(guestOffset: GuestOffset, target: Uint8Array, from: number): Pending {
    const run = this.#run;
    const length = target.byteLength;
    let done = from;
    while (done < length) {
      let pending = run.find(guestOffset + done, length - done);
      if (pending === undefined) {
        const part = slice(target, done, run.length);
        const at = guestOffset + done;
        done += run.length;
        pending = this.#readRun(at, part);
      }
      if (pending !== undefined) {
        return after(pending, this.#read.bind(this, guestOffset, target, done));
      }
    }
    return undefined;
  }

  #readRun(guestOffset: GuestOffset, target: Uint8Array): Pending {
    const run = this.#run;
    switch (run.kind) {
      case 'data':
        return this.#device.read(run.hostOffset, target, this.#readPurpose);
      case 'zero':
        target.fill(0);
        return undefined;
      case 'unallocated':
      case 'no-table':
        return readFromBacking(this.backing, guestOffset, target);
    }
  }

  /**
   * Serves a write from `from` on; plain arguments, so that a write that never waits allocates
   * nothing.
   */
  #write(
    guestOffset: GuestOffset,
    length: number,
    bytes: Uint8Array | undefined,
    from: number,
    hasTurn: boolean,
  ): Pending {
    const run = this.#run;
    let done = from;
    while (done < length) {
      const at = guestOffset + done;
      let pending = run.find(at, length - done);
      if (pending === undefined) {
        if (!hasTurn && (run.kind !== 'data' || run.unsettled)) {
          return this.#turn.hold(this.#writeInTurn, guestOffset, length, bytes, done);
        }
        const part = bytes && slice(bytes, done, run.length);
        done += run.length;
        pending = run.kind === 'data' ? this.#writeInPlace(part) : this.#allocate(at, part);
      }
      if (pending !== undefined) {
        return after(pending, this.#write.bind(this, guestOffset, length, bytes, done, hasTurn));
      }
    }
    return undefined;
  }

  /** Looks again: the cluster may have been allocated while the write waited for its turn. */
  readonly #writeInTurn = (
    guestOffset: GuestOffset,
    length: number,
    bytes: Uint8Array | undefined,
    done: number,
  ): Pending => {
    this.#isCounted = false;
    return this.#write(guestOffset, length, bytes, done, true);
  };

  /** Allocates the run that was just found; the turn is held. */
  #allocate(guestOffset: GuestOffset, bytes: Uint8Array | undefined): Pending {
    if (!this.#isCounted && bytes !== undefined) {
      this.#allocatingWrites++;
      this.#isCounted = true;
    }
    return this.#allocation.run(guestOffset, bytes, this.#run);
  }

  #writeInPlace(bytes: Uint8Array | undefined): Pending {
    const { hostOffset, length } = this.#run;
    if (bytes === undefined) return writeRealZeroes(this.#device, hostOffset, length);
    return this.#device.write(hostOffset, bytes, 'data');
  }
}

/** The part of `bytes` a run serves; `bytes` itself where that is all. */
function slice(bytes: Uint8Array, from: number, length: number): Uint8Array {
  return length === bytes.byteLength ? bytes : bytes.subarray(from, from + length);
}
