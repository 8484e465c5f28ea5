/**
 * Guest writes: in place where the disk has blocks of its own, else to new ones, which become the
 * disk's when they are written.
 *
 *      find ─▶ own extent: written in place
 *           └▶ none, zeroes, a snapshot's, or data that a commit proves: new blocks → data → mapped (lock)
 *
 * Invariants:
 * - Data are written without the lock. What has been written is mapped before the request is done, and
 *   durable with the next commit.
 * - Blocks that a write fills in part get the rest of what they held. One such write runs at a time,
 *   and no other write in part to the same blocks: neither misses what the other wrote.
 * - A write that never waits makes no promise and no object.
 */

import { Mutex } from '../../../core/mutex.ts';
import type { GuestOffset } from '../../../core/offsets.ts';
import { allocatePages } from '../../../core/page-memory.ts';
import { after, inOrder, settle, type Pending } from '../../../core/pending.ts';
import type { WritePart } from '../../../device/block-device.ts';
import { readFromBacking } from '../../backing-read.ts';
import { BLOCK_SIZE, NO_EXTENT, ZERO_EXTENT } from '../on-disk/layout.ts';
import type { ImageCore } from '../tree/image-core.ts';

/** Writes that are filled up to this many bytes use the same memory. */
const FILL_BYTES = 256 * 1024;

/** What there is before a write to blocks that are filled. */
interface Before {
  /** Host block; or `ZERO_EXTENT`, `NO_EXTENT`. */
  readonly host: number;
  readonly hint: number;
}

export class GuestWriter {
  allocatingWrites = 0;
  readonly #core: ImageCore;
  readonly #turn = new Mutex();
  #buffer: Uint8Array<ArrayBuffer> | undefined;
  /** Guest blocks that are being filled. */
  #fillFrom = 0;
  #fillTo = 0;
  readonly #map: (guest: number, blocks: number, host: number, bytes: Uint8Array) => Pending;

  constructor(core: ImageCore) {
    this.#core = core;
    this.#map = core.map.bind(core);
  }

  write(guestOffset: GuestOffset, bytes: Uint8Array): Pending {
    const pending = this.#write(guestOffset, bytes, 0, false, false);
    return pending === undefined ? undefined : this.#core.space.whileInFlight(pending);
  }

  /** Plain arguments, so that a write that never waits allocates nothing. */
  #write(
    guestOffset: GuestOffset,
    bytes: Uint8Array,
    from: number,
    counted: boolean,
    hasTurn: boolean,
  ): Pending {
    const { tree, fresh, device } = this.#core;
    const length = bytes.byteLength;
    let isCounted = counted;
    let done = from;
    while (done < length) {
      const at = guestOffset + done;
      const block = Math.floor(at / BLOCK_SIZE);
      const into = at - block * BLOCK_SIZE;
      let pending = tree.find(block);
      if (pending === undefined) {
        const part = Math.min(length - done, tree.foundBlocks * BLOCK_SIZE - into);
        const blocks = Math.ceil((into + part) / BLOCK_SIZE);
        const isWhole = into === 0 && blocks * BLOCK_SIZE === part;
        const host = tree.foundHost;
        const isOwn =
          host !== NO_EXTENT && host !== ZERO_EXTENT && !tree.foundShared && !fresh.isKept(host, blocks);
        if (!isWhole && !hasTurn && (!isOwn || this.#isFilled(block, blocks))) {
          return this.#turn.hold(this.#writeInTurn, guestOffset, bytes, done, isCounted);
        }
        const piece = part === length ? bytes : bytes.subarray(done, done + part);
        done += part;
        if (isOwn) pending = device.write(host * BLOCK_SIZE + into, piece, 'data');
        else {
          if (!isCounted) this.allocatingWrites++;
          isCounted = true;
          pending = isWhole
            ? this.#writeNew(block, piece, tree.foundHint)
            : this.#fill(at, piece, { host, hint: tree.foundHint });
        }
      }
      if (pending !== undefined) {
        return after(pending, this.#write.bind(this, guestOffset, bytes, done, isCounted, hasTurn));
      }
    }
    return undefined;
  }

  /** Looks again: what was to be filled may have been while the write waited for its turn. */
  readonly #writeInTurn = (
    guestOffset: GuestOffset,
    bytes: Uint8Array,
    done: number,
    isCounted: boolean,
  ): Pending => this.#write(guestOffset, bytes, done, isCounted, true);

  #isFilled(block: number, blocks: number): boolean {
    return block < this.#fillTo && block + blocks > this.#fillFrom;
  }

  /** Writes whole blocks to new ones, and maps these. */
  #writeNew(block: number, bytes: Uint8Array, hint: number): Pending {
    const { space, device } = this.#core;
    const blocks = bytes.byteLength / BLOCK_SIZE;
    const host = space.allocate(blocks, hint);
    let pending: Pending;
    try {
      pending = device.write(host * BLOCK_SIZE, bytes, 'data');
    } catch (error) {
      space.release(host, blocks, false);
      throw error;
    }
    if (pending === undefined) return this.#core.lock.hold(this.#map, block, blocks, host, bytes);
    return settle(
      pending,
      () => this.#core.lock.hold(this.#map, block, blocks, host, bytes),
      (error) => {
        space.release(host, blocks, false);
        throw error;
      },
    );
  }

  /** As `writeNew`, for blocks that are written in part; the turn is held. */
  #fill(at: GuestOffset, piece: Uint8Array, before: Before): Pending {
    const { space, device, lock } = this.#core;
    const first = Math.floor(at / BLOCK_SIZE);
    const head = at - first * BLOCK_SIZE;
    const blocks = Math.ceil((head + piece.byteLength) / BLOCK_SIZE);
    const bytes = this.#memory(blocks * BLOCK_SIZE);
    const end = head + piece.byteLength;
    const tail = bytes.byteLength - end;
    const isLastRead = tail > 0 && (blocks > 1 || head === 0);
    const host = space.allocate(blocks, before.hint);
    const parts: readonly WritePart[] = [
      { purpose: 'cow' as const, bytes: bytes.subarray(0, head) },
      { purpose: 'data' as const, bytes: bytes.subarray(head, end) },
      { purpose: 'cow' as const, bytes: bytes.subarray(end) },
    ].filter((part) => part.bytes.byteLength > 0);
    this.#fillFrom = first;
    this.#fillTo = first + blocks;
    const steps = [
      () => (head > 0 ? this.#readBlock(first, bytes.subarray(0, BLOCK_SIZE), before, 0) : undefined),
      () =>
        isLastRead
          ? this.#readBlock(first + blocks - 1, bytes.subarray(-BLOCK_SIZE), before, blocks - 1)
          : undefined,
      () => {
        bytes.set(piece, head);
        return device.writeMerged(host * BLOCK_SIZE, parts);
      },
      () => lock.hold(this.#map, first, blocks, host, bytes),
    ];
    try {
      const pending = inOrder(steps);
      if (pending !== undefined) {
        return settle(pending, this.#endFill, (error) => {
          this.#failFill(host, blocks, error);
        });
      }
    } catch (error) {
      this.#failFill(host, blocks, error);
    }
    this.#endFill();
  }

  readonly #endFill = (): undefined => {
    this.#fillTo = 0;
    return undefined;
  };

  #failFill(host: number, blocks: number, error: unknown): never {
    this.#endFill();
    this.#core.space.release(host, blocks, false);
    throw error;
  }

  /** What the disk has in a block, with zeroes behind its end. */
  #readBlock(block: number, target: Uint8Array, { host }: Before, index: number): Pending {
    const { device, backing, virtualSize } = this.#core;
    const inside = Math.min(BLOCK_SIZE, virtualSize - block * BLOCK_SIZE);
    if (host === ZERO_EXTENT) target.fill(0);
    else if (host !== NO_EXTENT) return device.read((host + index) * BLOCK_SIZE, target, 'cow');
    else {
      target.fill(0, inside);
      return readFromBacking(backing, block * BLOCK_SIZE, target.subarray(0, inside));
    }
    return undefined;
  }

  #memory(length: number): Uint8Array<ArrayBuffer> {
    if (length > FILL_BYTES) return allocatePages(length);
    this.#buffer ??= allocatePages(FILL_BYTES);
    return this.#buffer.subarray(0, length);
  }
}
