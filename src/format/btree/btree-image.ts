/**
 * An open B-tree image.
 *
 * Invariants:
 * - Looking something up needs no lock; mapping and committing do. Data are read and written without.
 * - After a close without error the superblock in force is one that syncs kept in order, and the
 *   journal is empty.
 */

import { alignUp } from '../../core/alignment.ts';
import { assertInvariant, Qcow2BenchError } from '../../core/error.ts';
import type { GuestOffset } from '../../core/offsets.ts';
import type { Pending } from '../../core/pending.ts';
import type { Purpose, SyncCause } from '../../device/purpose.ts';
import type { CommitPolicy } from '../commit-policy.ts';
import type { DiskImage, Mapping } from '../disk-image.ts';
import type { ImageShape, NodeSize, Preallocation } from '../image-shape.ts';
import { zeroBytes } from '../real-zeroes.ts';
import { GuestWriter } from './io/guest-writer.ts';
import { Reader } from './io/reader.ts';
import { ZeroRequests } from './io/zero-requests.ts';
import { BLOCK_SIZE, NO_EXTENT, VIRTUAL_SIZE_MAX, ZERO_EXTENT } from './on-disk/layout.ts';
import { BtreeSnapshots } from './snapshots.ts';
import type { ImageCore } from './tree/image-core.ts';

export class BtreeImage implements DiskImage {
  readonly format = 'btree';
  readonly clusterSize = BLOCK_SIZE;
  readonly snapshots: BtreeSnapshots;
  readonly #core: ImageCore;
  readonly #reader: Reader;
  readonly #writer: GuestWriter;
  readonly #zeroes: ZeroRequests;
  readonly #flush: (cause: SyncCause) => Pending;
  #isClosed = false;

  constructor(core: ImageCore, readPurpose: Purpose) {
    this.#core = core;
    this.#reader = new Reader(core, readPurpose);
    this.#writer = new GuestWriter(core);
    this.#zeroes = new ZeroRequests(core, this.#writer);
    this.#flush = core.flush.bind(core);
    this.snapshots = new BtreeSnapshots(core);
  }

  get virtualSize(): number {
    return this.#core.virtualSize;
  }

  get backing(): DiskImage | undefined {
    return this.#core.backing;
  }

  get commitPolicy(): CommitPolicy {
    return this.#core.policy;
  }

  get shape(): ImageShape {
    // The superblock was checked for it.
    return { nodeSize: this.#core.nodeSize as NodeSize };
  }

  get allocatingWrites(): number {
    return this.#writer.allocatingWrites;
  }

  get metadataInMemory(): number {
    const { nodes, space } = this.#core;
    return nodes.byteLength + space.byteLength;
  }

  read(guestOffset: GuestOffset, target: Uint8Array): Pending {
    return this.#reader.read(guestOffset, target);
  }

  write(guestOffset: GuestOffset, bytes: Uint8Array): Pending {
    this.#assertWritable();
    return this.#writer.write(guestOffset, bytes);
  }

  writeZeroes(guestOffset: GuestOffset, length: number, options: { readonly unmap: boolean }): Promise<void> {
    this.#assertWritable();
    return this.#zeroes.writeZeroes(guestOffset, length, options.unmap);
  }

  discard(guestOffset: GuestOffset, length: number): Promise<void> {
    this.#assertWritable();
    return this.#zeroes.discard(guestOffset, length);
  }

  flush(cause: SyncCause): Pending {
    return this.#core.lock.hold(this.#flush, cause);
  }

  async map(guestOffset: GuestOffset, length: number): Promise<Mapping> {
    const { tree } = this.#core;
    const block = Math.floor(guestOffset / BLOCK_SIZE);
    for (;;) {
      const pending = tree.find(block);
      if (pending === undefined) break;
      await pending;
    }
    const into = guestOffset - block * BLOCK_SIZE;
    const found = Math.min(length, tree.foundBlocks * BLOCK_SIZE - into);
    const host = tree.foundHost;
    if (host === NO_EXTENT) return { kind: 'unallocated', length: found, hostOffset: undefined };
    if (host === ZERO_EXTENT) return { kind: 'zero', length: found, hostOffset: undefined };
    return { kind: 'data', length: found, hostOffset: host * BLOCK_SIZE + into };
  }

  /** @throws Qcow2BenchError `btree-bad-image-size`, `btree-no-preallocation` */
  async resize(virtualSize: number, preallocation: Preallocation = 'off'): Promise<void> {
    this.#assertWritable();
    const core = this.#core;
    const { path } = core.device;
    if (preallocation !== 'off') {
      throw new Qcow2BenchError('btree-no-preallocation', 'the B-tree format has no preallocation', { path });
    }
    checkVirtualSize(virtualSize, path);
    const before = core.virtualSize;
    if (virtualSize > before) {
      core.setVirtualSize(virtualSize);
      await this.#hideBehind(before, virtualSize);
    } else {
      const kept = Math.ceil(virtualSize / BLOCK_SIZE);
      const blocks = Math.ceil(before / BLOCK_SIZE) - kept;
      core.setVirtualSize(virtualSize);
      if (blocks > 0) await core.lock.hold(() => core.map(kept, blocks, NO_EXTENT, undefined, true));
    }
    await core.lock.hold(() => core.commit('commit'));
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { device, readOnly, backing, lock } = this.#core;
    try {
      if (!readOnly) await lock.hold(() => this.#core.settle('close'));
    } finally {
      await device.close();
      await backing?.close();
    }
  }

  async abandon(): Promise<void> {
    this.#isClosed = true;
    await this.#core.device.close();
    await this.#core.backing?.abandon();
  }

  /** What is new of the disk reads as zeroes, whatever the last block or a backing file have there. */
  async #hideBehind(from: number, to: number): Promise<void> {
    const blockEnd = Math.min(to, alignUp(from, BLOCK_SIZE));
    if (blockEnd > from) await this.write(from, zeroBytes(blockEnd - from));
    const { backing } = this.#core;
    if (backing !== undefined && backing.virtualSize > blockEnd && to > blockEnd) {
      await this.writeZeroes(blockEnd, to - blockEnd, { unmap: false });
    }
  }

  #assertWritable(): void {
    assertInvariant(!this.#core.readOnly, 'a change of a B-tree image opened read-only');
  }
}

/** @throws Qcow2BenchError `btree-bad-image-size` */
export function checkVirtualSize(virtualSize: number, path: string): void {
  if (Number.isSafeInteger(virtualSize) && virtualSize <= VIRTUAL_SIZE_MAX && virtualSize % 512 === 0) return;
  throw new Qcow2BenchError(
    'btree-bad-image-size',
    `a disk of ${String(virtualSize)} bytes is not possible: it must be a multiple of 512 and at most 8 TiB`,
    { path },
  );
}
