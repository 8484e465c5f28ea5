/**
 * Host clusters whose refcount fell to zero and that are to be given back to the file system.
 * Adjacent ranges merge, so that one guest request punches few holes.
 *
 * Invariant: ranges never overlap; a cluster is freed once.
 */

import { systemCode } from '../../../core/error.ts';
import type { HostOffset } from '../../../core/offsets.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import { discardRange } from '../../../device/zeroing.ts';

export class DiscardQueue {
  readonly #device: BlockDevice;
  #ranges: { start: number; end: number }[] = [];

  constructor(device: BlockDevice) {
    this.#device = device;
  }

  add(hostOffset: HostOffset, length: number): void {
    const added = { start: hostOffset, end: hostOffset + length };
    // A range that touches the new one is joined in place, as QEMU keeps its list; one that then
    // touches a further range swallows it.
    const first = this.#ranges.find((range) => range.end === added.start || range.start === added.end);
    if (first === undefined) {
      this.#ranges.push(added);
      return;
    }
    first.start = Math.min(first.start, added.start);
    first.end = Math.max(first.end, added.end);
    const second = this.#ranges.find(
      (range) => range !== first && (range.end === first.start || range.start === first.end),
    );
    if (second === undefined) return;
    first.start = Math.min(first.start, second.start);
    first.end = Math.max(first.end, second.end);
    this.#ranges = this.#ranges.filter((range) => range !== second);
  }

  /**
   * Punches the queued holes in the order in which they were queued. A failed one only wastes
   * space.
   */
  async process(): Promise<void> {
    while (this.#ranges.length > 0) {
      const { start, end } = this.#ranges.shift() as { start: number; end: number };
      await punchQuietly(this.#device, start, end - start);
    }
  }

  get isEmpty(): boolean {
    return this.#ranges.length === 0;
  }

  /** Drops the queue: the refcount update that filled it failed. */
  clear(): void {
    this.#ranges = [];
  }
}

/** Punches a hole where that can be done: one that failed only wastes space. */
export async function punchQuietly(device: BlockDevice, offset: HostOffset, length: number): Promise<void> {
  try {
    const pending = discardRange(device, offset, length, 'data');
    if (pending !== undefined) await pending;
  } catch (error) {
    if (systemCode(error) === undefined) throw error;
  }
}
