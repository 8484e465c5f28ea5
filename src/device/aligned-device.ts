/**
 * The filter that lets engines write single entries into a file opened with O_DIRECT: a request
 * that is not aligned becomes a read of the blocks at its ends and one write of the whole padded
 * range, as QEMU does it (rule R2). Aligned requests pass without a copy.
 *
 *      |<------ block ------>|<------ block ------>|<------ block ------>|
 *             [~~~~~~~~~~~~~~~~~~ request ~~~~~~~~~~~~~~~~~~]
 *      [ head ]                                             [    tail    ]   read, put around, written
 *
 * Invariants: offset and length of every read and write below are multiples of
 * `inner.requestAlignment`; between the read and the write of a padded range no other write touches
 * it. A write near the end makes the file end at a block boundary, as in QEMU.
 */

import { alignDown, alignUp, isAligned } from '../core/alignment.ts';
import { allocatePages } from '../core/page-memory.ts';
import { inOrder, type Pending } from '../core/pending.ts';
import type { BlockDevice, FileGrowth, WritePart } from './block-device.ts';
import { DeviceFilter } from './filter.ts';
import { mergedLength, mergedPurpose } from './merged-write.ts';
import type { Purpose } from './purpose.ts';
import { RangeGuard } from './range-guard.ts';

/**
 * A padded range: the request with the rest of the blocks it begins and ends in. Bytes in the file.
 */
interface Padded {
  readonly start: number;
  readonly end: number;
  readonly requestStart: number;
  readonly requestEnd: number;
}

export class AlignedDevice extends DeviceFilter {
  readonly #alignment: number;
  readonly #guard = new RangeGuard();
  /** Page memory kept for padded requests; a second one at the same time gets memory of its own. */
  #spare: Uint8Array | undefined;
  #spareTaken = false;

  constructor(inner: BlockDevice) {
    super(inner);
    this.#alignment = inner.requestAlignment;
  }

  override get requestAlignment(): number {
    return 1;
  }

  override read(offset: number, target: Uint8Array, purpose: Purpose): Pending {
    if (this.#isAligned(offset, target.byteLength)) return this.inner.read(offset, target, purpose);
    const { start, end, requestEnd } = this.#pad(offset, target.byteLength);
    return this.#withBuffer(end - start, (buffer) =>
      inOrder([
        () => this.inner.read(start, buffer, purpose),
        () => {
          target.set(buffer.subarray(offset - start, requestEnd - start));
          return undefined;
        },
      ]),
    );
  }

  override write(offset: number, bytes: Uint8Array, purpose: Purpose, from?: number, to?: number): Pending {
    if (!this.#isAligned(offset, bytes.byteLength)) {
      return this.#writePadded(this.#pad(offset, bytes.byteLength), [{ purpose, bytes }]);
    }
    const end = offset + bytes.byteLength;
    const blocker = this.#guard.blocker(offset, end, false);
    if (blocker !== undefined) return blocker.then(() => this.write(offset, bytes, purpose, from, to));
    return this.#hold(offset, end, this.inner.write(offset, bytes, purpose, from, to));
  }

  override writeMerged(offset: number, parts: readonly WritePart[]): Pending {
    const length = mergedLength(parts);
    if (!this.#isAligned(offset, length)) return this.#writePadded(this.#pad(offset, length), parts);
    const blocker = this.#guard.blocker(offset, offset + length, false);
    if (blocker !== undefined) return blocker.then(() => this.writeMerged(offset, parts));
    return this.#hold(offset, offset + length, this.inner.writeMerged(offset, parts));
  }

  override zeroRange(offset: number, length: number, purpose: Purpose): Pending {
    if (!this.#isAligned(offset, length)) return this.#zeroPadded(this.#pad(offset, length), purpose, 'keep');
    const blocker = this.#guard.blocker(offset, offset + length, false);
    if (blocker !== undefined) return blocker.then(() => this.zeroRange(offset, length, purpose));
    return this.#hold(offset, offset + length, this.inner.zeroRange(offset, length, purpose));
  }

  /**
   * A hole needs no alignment: the system zeroes the bytes at its ends itself. As in QEMU, a
   * discard is cut at the blocks that it begins and ends in, and a zero-write is padded as any
   * other.
   */
  override punchHole(offset: number, length: number, purpose: Purpose, isZeroWrite = false): Pending {
    if (isZeroWrite && !this.#isAligned(offset, length)) {
      return this.#zeroPadded(this.#pad(offset, length), purpose, 'unmap');
    }
    const blocker = this.#guard.blocker(offset, offset + length, false);
    if (blocker !== undefined) {
      return blocker.then(() => this.punchHole(offset, length, purpose, isZeroWrite));
    }
    return this.#hold(offset, offset + length, this.#punchPieces(offset, length, purpose, isZeroWrite));
  }

  #punchPieces(offset: number, length: number, purpose: Purpose, isZeroWrite: boolean): Pending {
    if (this.#isAligned(offset, length)) return this.inner.punchHole(offset, length, purpose, isZeroWrite);
    const end = offset + length;
    const first = Math.min(end, alignUp(offset, this.#alignment));
    const last = Math.max(first, alignDown(end, this.#alignment));
    const cuts = [offset, first, last, end];
    const steps = cuts.slice(1).map((to, index) => (): Pending => {
      const from = cuts[index] ?? to;
      return to > from ? this.inner.punchHole(from, to - from, purpose, isZeroWrite) : undefined;
    });
    return inOrder(steps);
  }

  /** Needs no alignment: no byte changes. */
  override reserve(offset: number, length: number, purpose: Purpose): Pending {
    const blocker = this.#guard.blocker(offset, offset + length, false);
    if (blocker !== undefined) return blocker.then(() => this.reserve(offset, length, purpose));
    return this.#hold(offset, offset + length, this.inner.reserve(offset, length, purpose));
  }

  override truncate(size: number, purpose: Purpose, growth?: FileGrowth): Pending {
    const blocker = this.#guard.blocker(size, Infinity, false);
    if (blocker !== undefined) return blocker.then(() => this.truncate(size, purpose, growth));
    return this.#hold(size, Infinity, this.inner.truncate(size, purpose, growth));
  }

  #isAligned(offset: number, length: number): boolean {
    return isAligned(offset, this.#alignment) && isAligned(length, this.#alignment);
  }

  #pad(offset: number, length: number): Padded {
    return {
      start: alignDown(offset, this.#alignment),
      end: alignUp(offset + length, this.#alignment),
      requestStart: offset,
      requestEnd: offset + length,
    };
  }

  #hold(start: number, end: number, pending: Pending): Pending {
    return pending === undefined ? undefined : this.#guard.hold(start, end, false, pending);
  }

  #writePadded(padded: Padded, parts: readonly WritePart[]): Pending {
    const { start, end, requestStart } = padded;
    const blocker = this.#guard.blocker(start, end, true);
    if (blocker !== undefined) return blocker.then(() => this.#writePadded(padded, parts));
    return this.#exclusively(padded, end - start, (buffer) => {
      const steps = this.#readsOfEnds(padded, buffer, mergedPurpose(parts));
      steps.push(() => {
        const laid = layParts(buffer, requestStart - start, parts);
        const [only] = laid;
        return only !== undefined && laid.length === 1
          ? this.#writeWhole(start, only.bytes, only.purpose)
          : this.inner.writeMerged(start, laid);
      });
      return steps;
    });
  }

  /** Reads both ends, writes the first block, zeroes the blocks between, writes the last block. */
  #zeroPadded(padded: Padded, purpose: Purpose, space: 'keep' | 'unmap'): Pending {
    const { start, end, requestStart, requestEnd } = padded;
    const blocker = this.#guard.blocker(start, end, true);
    if (blocker !== undefined) return blocker.then(() => this.#zeroPadded(padded, purpose, space));
    const alignment = this.#alignment;
    return this.#exclusively(padded, Math.min(end - start, 2 * alignment), (buffer) => {
      const steps = this.#readsOfEnds(padded, buffer, purpose);
      if (this.#endsMeet(padded)) {
        steps.push(() => {
          buffer.fill(0, requestStart - start, requestEnd - start);
          return this.#writeWhole(start, buffer, purpose);
        });
        return steps;
      }
      const middle = alignUp(requestStart, alignment);
      const middleEnd = alignDown(requestEnd, alignment);
      if (middle > start) {
        const head = buffer.subarray(0, alignment);
        steps.push(() => this.#writeWhole(start, head.fill(0, requestStart - start), purpose));
      }
      const length = middleEnd - middle;
      if (space === 'keep') steps.push(() => this.inner.zeroRange(middle, length, purpose));
      else steps.push(() => this.inner.punchHole(middle, length, purpose, true));
      if (middleEnd < end) {
        const tail = buffer.subarray(-alignment);
        steps.push(() => this.#writeWhole(middleEnd, tail.fill(0, 0, requestEnd - middleEnd), purpose));
      }
      return steps;
    });
  }

  /** Blocks that were read and put together again; which of their bytes changed is not known. */
  #writeWhole(offset: number, bytes: Uint8Array, purpose: Purpose): Pending {
    return this.inner.write(offset, bytes, purpose, undefined, undefined);
  }

  /** Whether the cut ends are in one block or in neighbours, so that one read gets both. */
  #endsMeet({ start, end, requestStart, requestEnd }: Padded): boolean {
    if (end - start === this.#alignment) return true;
    return end - start === 2 * this.#alignment && requestStart > start && requestEnd < end;
  }

  /**
   * The reads of the cut ends: the first block into the start of `buffer`, the last into its end.
   */
  #readsOfEnds(padded: Padded, buffer: Uint8Array, purpose: Purpose): (() => Pending)[] {
    const { start, end, requestStart, requestEnd } = padded;
    const alignment = this.#alignment;
    if (this.#endsMeet(padded)) return [() => this.inner.read(start, buffer, purpose)];
    const reads: (() => Pending)[] = [];
    if (requestStart > start) {
      reads.push(() => this.inner.read(start, buffer.subarray(0, alignment), purpose));
    }
    if (requestEnd < end) {
      reads.push(() => this.inner.read(end - alignment, buffer.subarray(-alignment), purpose));
    }
    return reads;
  }

  /** Runs steps on a buffer; no other write touches the padded range meanwhile. */
  #exclusively(
    { start, end }: Padded,
    bufferLength: number,
    plan: (buffer: Uint8Array) => readonly (() => Pending)[],
  ): Pending {
    const pending = this.#withBuffer(bufferLength, (buffer) => inOrder(plan(buffer)));
    return pending === undefined ? undefined : this.#guard.hold(start, end, true, pending);
  }

  #withBuffer(length: number, work: (buffer: Uint8Array) => Pending): Pending {
    if (this.#spareTaken) return work(allocatePages(length));
    if (this.#spare === undefined || this.#spare.byteLength < length) this.#spare = allocatePages(length);
    this.#spareTaken = true;
    const giveBack = (): void => {
      this.#spareTaken = false;
    };
    let pending: Pending;
    try {
      pending = work(this.#spare.subarray(0, length));
    } catch (error) {
      giveBack();
      throw error;
    }
    if (pending !== undefined) return pending.finally(giveBack);
    giveBack();
    return undefined;
  }
}

/**
 * Copies `parts` into `buffer` from `at` on, and answers parts that cover the whole buffer: what
 * was read around the request belongs to the first and the last of them.
 */
function layParts(buffer: Uint8Array, at: number, parts: readonly WritePart[]): WritePart[] {
  let start = 0;
  let end = at;
  return parts.map(({ purpose, bytes }, index) => {
    buffer.set(bytes, end);
    end += bytes.byteLength;
    const part = { purpose, bytes: buffer.subarray(start, index === parts.length - 1 ? undefined : end) };
    start = end;
    return part;
  });
}
