/**
 * The header in the file, after it has been checked: its need-check bit and how that reaches the
 * disk.
 *
 * Invariants: `needCheck` is what the file says, so it changes only once a write is done; the bytes
 * that are not the header's fields (the backing file's name) pass through unchanged, since the
 * sector is read before it is written, as QEMU does.
 */

import { SECTOR_SIZE } from '../../core/alignment.ts';
import { allocatePages } from '../../core/page-memory.ts';
import type { Pending } from '../../core/pending.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { HEADER_SIZE, patchQedHeader, patchQedSize } from './header.ts';

export class QedHeaderFile {
  readonly #device: BlockDevice;
  readonly #sector: Uint8Array = allocatePages(SECTOR_SIZE);
  #needCheck: boolean;

  /** @param fields the `HEADER_SIZE` bytes as read. */
  constructor(device: BlockDevice, fields: Uint8Array, needCheck: boolean) {
    this.#device = device;
    this.#sector.set(fields);
    this.#needCheck = needCheck;
  }

  get needCheck(): boolean {
    return this.#needCheck;
  }

  /** First half of changing the bit in mid-run. */
  readSector(): Pending {
    return this.#device.read(0, this.#sector, 'header');
  }

  /** Second half; `settle` has to follow once it is done. */
  writeSector(needCheck: boolean): Pending {
    patchQedHeader(this.#sector, { needCheck });
    return this.#device.write(0, this.#sector, 'header');
  }

  settle(needCheck: boolean): void {
    this.#needCheck = needCheck;
  }

  /**
   * Writes the fields alone, as opening does: nothing in the file's first sector can have changed
   * since.
   */
  async rewriteFields(needCheck: boolean): Promise<void> {
    patchQedHeader(this.#sector, { needCheck });
    await this.#device.write(0, this.#sector.subarray(0, HEADER_SIZE), 'header');
    this.#needCheck = needCheck;
  }

  /** Says that the disk has another size. */
  async rewriteSize(virtualSize: number): Promise<void> {
    patchQedSize(this.#sector, virtualSize);
    await this.rewriteFields(this.#needCheck);
  }
}
