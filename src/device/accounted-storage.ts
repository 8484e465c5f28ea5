/**
 * Image files in memory with what a file system would allocate for them: for the size of an image
 * over a run.
 *
 * Invariants:
 * - Blocks of 4 KiB, as of ext4, XFS and btrfs. Writes, zero-ranges and reservations allocate the
 *   blocks that they touch; a hole frees those that are whole within it, and shrinking all behind
 *   the end.
 * - Devices of one file share its account, whichever of them allocates.
 */

import type { FileGrowth, WritePart } from './block-device.ts';
import { MemoryDevice, type MemoryDeviceOptions } from './memory-device.ts';
import { MemoryStorage } from './memory-storage.ts';
import { mergedLength } from './merged-write.ts';
import type { Purpose } from './purpose.ts';
import { SparseBytes } from './sparse-bytes.ts';
import { BLOCK_SIZE, WrittenBlocks } from './written-blocks.ts';

/** Bytes. */
export interface FileUsage {
  readonly fileBytes: number;
  readonly allocatedBytes: number;
}

/** Memory that keeps account of the blocks of each file. */
export class AccountedStorage extends MemoryStorage {
  readonly #accounts = new WeakMap<SparseBytes, WrittenBlocks>();

  /** Of the files whose names `counts` accepts, together. */
  usage(counts: (name: string) => boolean): FileUsage {
    let fileBytes = 0;
    let allocatedBytes = 0;
    for (const name of this.names().filter(counts)) {
      const device = this.open(name, { readOnly: true });
      fileBytes += device.size();
      if (device instanceof AccountedDevice) allocatedBytes += device.accountedBytes;
    }
    return { fileBytes, allocatedBytes };
  }

  protected override makeDevice(options: MemoryDeviceOptions): MemoryDevice {
    const { bytes = new SparseBytes() } = options;
    const blocks = this.#accounts.get(bytes) ?? new WrittenBlocks();
    this.#accounts.set(bytes, blocks);
    return new AccountedDevice({ ...options, bytes }, blocks);
  }
}

class AccountedDevice extends MemoryDevice {
  readonly #blocks: WrittenBlocks;

  constructor(options: MemoryDeviceOptions, blocks: WrittenBlocks) {
    super(options);
    this.#blocks = blocks;
  }

  get accountedBytes(): number {
    return this.#blocks.count * BLOCK_SIZE;
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): undefined {
    super.write(offset, bytes, purpose, from, to);
    this.#blocks.write(offset, bytes.byteLength);
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): undefined {
    super.writeMerged(offset, parts);
    this.#blocks.write(offset, mergedLength(parts));
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): undefined {
    super.zeroRange(offset, length, purpose);
    // Extents that were not written yet take their place too.
    this.#blocks.write(offset, length);
  }

  override reserve(offset: number, length: number, purpose: Purpose): undefined {
    super.reserve(offset, length, purpose);
    this.#blocks.write(offset, length);
  }

  override punchHole(offset: number, length: number, purpose: Purpose): undefined {
    super.punchHole(offset, length, purpose);
    this.#blocks.clear(offset, length);
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): undefined {
    const before = this.size();
    super.truncate(size, purpose, growth);
    if (size < before) this.#blocks.clear(size, roundedUp(before) - size);
    else if (growth !== undefined && growth !== 'hole') this.#blocks.write(before, size - before);
  }
}

/** The last block of a file is whole. */
function roundedUp(size: number): number {
  return Math.ceil(size / BLOCK_SIZE) * BLOCK_SIZE;
}
