/**
 * The state that every part of an open image shares, and how it becomes durable.
 *
 *      two-sync   nodes → sync → superblock → sync
 *      one-sync   nodes, superblock with checksums of the new data → sync
 *      journal    a record with the changes and checksums of the new data → sync
 *
 * An ordered commit (two-sync) takes the place of the other two where their checksums or changes do
 * not fit, where the journal is full, after a failure, for snapshots and sizes, and at a close.
 *
 * Invariants:
 * - `lock` is held while the tree is changed or committed. Looking something up needs none.
 * - The superblock of the last durable commit is never overwritten.
 * - No block that the last durable commit leads to is written, but guest data in place; and these
 *   not where checksums of them are in it (`fresh-data`).
 */

import { Mutex } from '../../../core/mutex.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import { after, inOrder, settle, type Pending } from '../../../core/pending.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import type { SyncCause } from '../../../device/purpose.ts';
import { discardRange } from '../../../device/zeroing.ts';
import type { CommitPolicy } from '../../commit-policy.ts';
import type { DiskImage } from '../../disk-image.ts';
import { zeroBytes } from '../../real-zeroes.ts';
import { encodeRecord, fitsRecord, type MapOperation } from '../on-disk/journal-record.ts';
import { BLOCK_SIZE, JOURNAL_BLOCKS } from '../on-disk/layout.ts';
import { encodeSnapshots, type StoredSnapshot } from '../on-disk/snapshot-table.ts';
import {
  encodeSuperblock,
  SUPERBLOCK_PROOFS,
  type Proofs,
  type Superblock,
  type TreeRoot,
} from '../on-disk/superblock.ts';
import { checksum } from '../on-disk/checksum.ts';
import { ExtentTree } from './extent-tree.ts';
import { FreshData, NO_PROOFS } from './fresh-data.ts';
import { HostSpace, type BlockRange } from './host-space.ts';
import type { TreeNodes } from './tree-nodes.ts';

/** Operations of one record at most. */
const OPERATIONS_MAX = 338;

/** Blocks of data whose checksums each policy has room for. */
const PROOFS_MAX: Readonly<Record<CommitPolicy, number>> = {
  'two-sync': 0,
  'one-sync': SUPERBLOCK_PROOFS,
  journal: 508,
};

export interface ImageCoreOptions {
  readonly device: BlockDevice;
  readonly superblock: Superblock;
  /** Which of the two it is. */
  readonly slot: number;
  /** Larger than that of any superblock in the file. */
  readonly nextGeneration: number;
  readonly snapshots: readonly StoredSnapshot[];
  readonly policy: CommitPolicy;
  readonly readOnly: boolean;
  /** Bytes. */
  readonly cacheSize: number;
  readonly backing: DiskImage | undefined;
  /** Whether space that the guest gives back is given back to the file system. */
  readonly punches: boolean;
}

export class ImageCore {
  readonly device: BlockDevice;
  readonly nodeSize: number;
  readonly readOnly: boolean;
  readonly backing: DiskImage | undefined;
  readonly lock = new Mutex();
  readonly space: HostSpace;
  readonly tree: ExtentTree;
  readonly nodes: TreeNodes;
  readonly fresh: FreshData;
  virtualSize: number;
  snapshots: readonly StoredSnapshot[];

  readonly #policy: CommitPolicy;
  readonly #punches: boolean;
  readonly #reference: Superblock['backing'];
  readonly #block = allocatePages(BLOCK_SIZE);
  /** Superblock of the last durable commit. */
  #slot: number;
  #generation: number;
  #isUnordered: boolean;
  #journal: Superblock['journal'];
  /** Records of the journal that belong to it. */
  #records = 0;
  #snapshotPlace: Superblock['snapshots'];
  /** The superblock has to be written though the tree is as it was. */
  #isChanged = false;
  #mustOrder = false;
  /** Since the last record. */
  #operations: MapOperation[] = [];
  #hasTooMany = false;
  #isPunching = false;
  #hasIssuedSuperblock = false;

  constructor(options: ImageCoreOptions) {
    const { device, superblock, policy } = options;
    this.device = device;
    this.nodeSize = superblock.nodeSize;
    this.readOnly = options.readOnly;
    this.backing = options.backing;
    this.virtualSize = superblock.virtualSize;
    this.snapshots = options.snapshots;
    this.#policy = policy;
    this.#punches = options.punches;
    this.#reference = superblock.backing;
    this.#slot = options.slot;
    this.#generation = superblock.generation;
    this.#isUnordered = superblock.isUnordered;
    this.#journal = superblock.journal;
    this.#snapshotPlace = superblock.snapshots;
    this.space = new HostSpace(this.nodeSize, device.path);
    this.fresh = new FreshData(PROOFS_MAX[policy]);
    this.tree = new ExtentTree({
      device,
      space: this.space,
      nodeSize: this.nodeSize,
      cacheSize: options.cacheSize,
      mayWrite: !options.readOnly,
      onReleased: this.#release,
    });
    this.nodes = this.tree.nodes;
    this.nodes.epoch = superblock.epoch;
    this.nodes.reset(superblock.root, false);
    this.nodes.committed(options.nextGeneration);
    this.#shareWithSnapshots();
  }

  get policy(): CommitPolicy {
    return this.#policy;
  }

  /** Blocks of metadata beside the trees that the file has now. */
  get places(): readonly BlockRange[] {
    const { block, bytes } = this.#snapshotPlace;
    return [
      { block, blocks: Math.ceil(bytes / BLOCK_SIZE) },
      { block: this.#journal.block, blocks: this.#journal.blocks },
    ].filter(({ blocks }) => blocks > 0);
  }

  /**
   * Maps guest blocks, as `ExtentTree.replace` does; the lock is held.
   *
   * @param bytes what was written to the host blocks
   * @param isDiscard whether blocks that become free are given back to the file system
   */
  map(guest: number, blocks: number, host: number, bytes?: Uint8Array, isDiscard = false): Pending {
    this.#isPunching = isDiscard && this.#punches;
    let pending: Pending;
    try {
      pending = this.tree.replace(guest, blocks, host);
    } catch (error) {
      this.#mustOrder = true;
      throw error;
    }
    if (pending === undefined) {
      this.#noteMapped(guest, blocks, host, bytes);
      return undefined;
    }
    return settle(pending, this.#noteMapped.bind(this, guest, blocks, host, bytes), (error) => {
      this.#mustOrder = true;
      throw error;
    });
  }

  /** Makes all that was mapped durable, as the policy says; the lock is held. */
  flush(cause: SyncCause): Pending {
    const hasChanges = this.#policy === 'journal' ? this.#operations.length > 0 : this.nodes.isChanged;
    if (!hasChanges && !this.#hasTooMany && !this.#isChanged && !this.#mustOrder) {
      return this.device.sync(cause);
    }
    if (this.#policy === 'journal' && this.#hasRoom()) return this.#append(cause);
    const isProved =
      this.#policy === 'one-sync' && !this.fresh.isTooMuch && !this.#isChanged && !this.#mustOrder;
    return this.#commit(cause, !isProved);
  }

  /** Makes all durable with an ordered commit, whatever the policy; the lock is held. */
  commit(cause: SyncCause): Pending {
    return this.#commit(cause, true);
  }

  /** Before a close: an ordered commit, unless the last one was and nothing has changed. */
  settle(cause: SyncCause): Pending {
    const isSettled =
      !this.nodes.isChanged &&
      !this.#isChanged &&
      !this.#mustOrder &&
      !this.#isUnordered &&
      this.#records === 0;
    return isSettled ? this.device.sync(cause) : this.#commit(cause, true);
  }

  /** The next commit is made even if the tree is as it was. */
  markChanged(): void {
    this.#isChanged = true;
  }

  /** The disk has another size, with the next commit. */
  setVirtualSize(virtualSize: number): void {
    this.virtualSize = virtualSize;
    this.#isChanged = true;
  }

  /** There are other snapshots, with the next commit, and another tree if one is given. */
  async setSnapshots(snapshots: readonly StoredSnapshot[], root?: TreeRoot): Promise<void> {
    const bytes = encodeSnapshots(snapshots);
    const blocks = Math.ceil(bytes.byteLength / BLOCK_SIZE);
    let place: Superblock['snapshots'] = { block: 0, bytes: 0, checksum: 0 };
    if (blocks > 0) {
      const padded = allocatePages(blocks * BLOCK_SIZE);
      padded.set(bytes);
      const block = this.space.allocate(blocks);
      place = { block, bytes: bytes.byteLength, checksum: checksum(bytes) };
      await this.device.write(block * BLOCK_SIZE, padded, 'snapshot-table');
    }
    const before = this.#snapshotPlace;
    if (before.bytes > 0) this.space.release(before.block, Math.ceil(before.bytes / BLOCK_SIZE), false);
    this.#snapshotPlace = place;
    this.snapshots = snapshots;
    this.#isChanged = true;
    if (root !== undefined) this.nodes.reset(root, true);
    this.#shareWithSnapshots();
  }

  #shareWithSnapshots(): void {
    this.nodes.sharedEpoch = this.snapshots.reduce((newest, { epoch }) => Math.max(newest, epoch), -1);
  }

  readonly #release = (block: number, blocks: number): void => {
    this.fresh.forget(block, blocks);
    this.space.release(block, blocks, this.#isPunching);
  };

  #noteMapped(guest: number, blocks: number, host: number, bytes: Uint8Array | undefined): void {
    if (bytes !== undefined) this.fresh.note(host, bytes);
    if (this.#policy !== 'journal') return;
    if (this.#operations.length === OPERATIONS_MAX) this.#hasTooMany = true;
    if (!this.#hasTooMany) this.#operations.push([guest, blocks, host]);
  }

  #hasRoom(): boolean {
    if (this.#mustOrder || this.#isChanged || this.#hasTooMany || this.fresh.isTooMuch) return false;
    return (
      this.#records < this.#journal.blocks && fitsRecord(this.#operations.length, this.fresh.proofs.size)
    );
  }

  #append(cause: SyncCause): Pending {
    const record = { operations: this.#operations, proofs: this.fresh.proofs };
    encodeRecord(this.#block, record, { base: this.#generation, sequence: this.#records });
    const offset = (this.#journal.block + this.#records) * BLOCK_SIZE;
    return this.#attempt([
      () => this.device.write(offset, this.#block, 'journal'),
      () => this.device.sync(cause),
      () => {
        this.#records++;
        this.#operations = [];
        return this.#becameDurable(record.proofs, false);
      },
    ]);
  }

  #commit(cause: SyncCause, isOrdered: boolean): Pending {
    const proofs = isOrdered ? NO_PROOFS : this.fresh.proofs;
    this.#hasIssuedSuperblock = false;
    return this.#attempt([
      () => this.#placeJournal(cause),
      () => this.nodes.write(),
      () => (isOrdered ? this.device.sync('commit') : undefined),
      () => this.#writeSuperblock(isOrdered, proofs),
      () => this.device.sync(cause),
      () => {
        this.#slot = 1 - this.#slot;
        this.#generation = this.nodes.generation;
        this.nodes.committed(this.#generation + 1);
        this.#isUnordered = !isOrdered;
        this.#isChanged = false;
        this.#mustOrder = false;
        this.#records = 0;
        this.#operations = [];
        this.#hasTooMany = false;
        return this.#becameDurable(proofs, true);
      },
    ]);
  }

  /** Runs the steps of a commit; one that fails leaves the next one to begin from the start. */
  #attempt(steps: readonly (() => Pending)[]): Pending {
    try {
      const pending = inOrder(steps);
      return pending === undefined ? undefined : settle(pending, () => undefined, this.#failed);
    } catch (error) {
      return this.#failed(error);
    }
  }

  readonly #failed = (error: unknown): never => {
    this.#mustOrder = true;
    // It may be in force: its nodes are not to be changed, and its number not to be used again.
    if (this.#hasIssuedSuperblock) this.nodes.abandonGeneration();
    this.#hasIssuedSuperblock = false;
    throw error;
  };

  #writeSuperblock(isOrdered: boolean, proofs: Proofs): Pending {
    const bytes = encodeSuperblock(
      {
        generation: this.nodes.generation,
        virtualSize: this.virtualSize,
        nodeSize: this.nodeSize,
        isUnordered: !isOrdered,
        root: this.nodes.root,
        epoch: this.nodes.epoch,
        snapshots: this.#snapshotPlace,
        journal: this.#journal,
        backing: this.#reference,
        proofs,
      },
      this.#block,
    );
    this.#hasIssuedSuperblock = true;
    return this.device.write((1 - this.#slot) * BLOCK_SIZE, bytes, 'superblock');
  }

  /** The journal has a place if the policy needs one; it has no bytes that a guest wrote. */
  #placeJournal(cause: SyncCause): Pending {
    const { block, blocks } = this.#journal;
    if (this.#policy !== 'journal') {
      if (blocks === 0) return undefined;
      this.#journal = { block: 0, blocks: 0 };
      this.space.release(block, blocks, false);
      return undefined;
    }
    if (blocks > 0 || cause === 'close') return undefined;
    const place = { block: this.space.allocate(JOURNAL_BLOCKS), blocks: JOURNAL_BLOCKS };
    const pending = this.device.write(
      place.block * BLOCK_SIZE,
      zeroBytes(JOURNAL_BLOCKS * BLOCK_SIZE),
      'journal',
    );
    if (pending !== undefined) {
      return after(pending, () => {
        this.#journal = place;
        return undefined;
      });
    }
    this.#journal = place;
    return undefined;
  }

  /** What was released before is free, once the file system has what it is to get back. */
  #becameDurable(proofs: Proofs, withNodes: boolean): Pending {
    this.#hasIssuedSuperblock = false;
    this.fresh.committed(proofs);
    const free = this.space.settle(withNodes);
    const pending = this.#punchFrom(free, 0);
    if (pending !== undefined) return after(pending, this.#reuse.bind(this, free));
    this.#reuse(free);
    return undefined;
  }

  #reuse(free: readonly BlockRange[]): void {
    this.space.reuse(free);
  }

  #punchFrom(free: readonly BlockRange[], from: number): Pending {
    for (let index = from; index < free.length; index++) {
      const { block, blocks, isPunched } = free[index] as BlockRange;
      if (isPunched !== true) continue;
      const pending = discardRange(this.device, block * BLOCK_SIZE, blocks * BLOCK_SIZE, 'data');
      if (pending !== undefined) return after(pending, this.#punchFrom.bind(this, free, index + 1));
    }
    return undefined;
  }
}
