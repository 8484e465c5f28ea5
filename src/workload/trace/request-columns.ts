/**
 * Requests as columns of numbers, for those who look at millions of them: none is an object, and
 * nothing is left for the garbage collector.
 *
 * Invariant: `kinds` has the index of the op in `REQUEST_OPS`, and the bits of the flags.
 */

import { REQUEST_OPS, type Request, type RequestOp } from '../request.ts';

const OP_BITS = 7;
export const FUA_BIT = 8;
const UNMAP_BIT = 16;
/** Small: recognising a trace makes columns for each format, and most take no request. */
const CAPACITY_MIN = 16;

const OP_INDEX = Object.fromEntries(REQUEST_OPS.map((op, index) => [op, index])) as Record<RequestOp, number>;

/** Of a request: its op and its flags. */
export function kindOf(op: RequestOp, fua: boolean, unmap: boolean): number {
  return OP_INDEX[op] | (fua ? FUA_BIT : 0) | (unmap ? UNMAP_BIT : 0);
}

export class RequestColumns {
  count = 0;
  kinds = new Uint8Array(CAPACITY_MIN);
  offsets = new Float64Array(CAPACITY_MIN);
  lengths = new Float64Array(CAPACITY_MIN);
  timesNs = new Float64Array(CAPACITY_MIN);

  add({ op, offset, length, fua, unmap, timeNs }: Request): void {
    this.push(kindOf(op, fua, unmap), offset, length, timeNs);
  }

  /** @param kind as `kindOf` has it. */
  push(kind: number, offset: number, length: number, timeNs: number): void {
    const at = this.count;
    if (at === this.kinds.length) this.#grow(2 * at);
    this.kinds[at] = kind;
    this.offsets[at] = offset;
    this.lengths[at] = length;
    this.timesNs[at] = timeNs;
    this.count = at + 1;
  }

  opAt(index: number): RequestOp {
    return REQUEST_OPS[(this.kinds[index] ?? 0) & OP_BITS] ?? 'flush';
  }

  /** Puts them in the order of their times; equal times keep theirs. */
  sort(): void {
    const { count, kinds, offsets, lengths, timesNs } = this;
    const order = Array.from({ length: count }, (_, index) => index);
    order.sort((a, b) => (timesNs[a] ?? 0) - (timesNs[b] ?? 0));
    this.kinds = kinds.slice();
    this.offsets = offsets.slice();
    this.lengths = lengths.slice();
    this.timesNs = timesNs.slice();
    for (const [to, from] of order.entries()) {
      this.kinds[to] = kinds[from] ?? 0;
      this.offsets[to] = offsets[from] ?? 0;
      this.lengths[to] = lengths[from] ?? 0;
      this.timesNs[to] = timesNs[from] ?? 0;
    }
  }

  /** Moves the first `count` of them to `target`, in place of what is there. */
  moveFirst(count: number, target: RequestColumns): void {
    const moved = Math.min(count, this.count);
    if (target.kinds.length < moved) target.#grow(moved);
    target.kinds.set(this.kinds.subarray(0, moved));
    target.offsets.set(this.offsets.subarray(0, moved));
    target.lengths.set(this.lengths.subarray(0, moved));
    target.timesNs.set(this.timesNs.subarray(0, moved));
    target.count = moved;
    for (const column of [this.kinds, this.offsets, this.lengths, this.timesNs]) {
      column.copyWithin(0, moved, this.count);
    }
    this.count -= moved;
  }

  requests(): Request[] {
    return Array.from({ length: this.count }, (_, index) => {
      const kind = this.kinds[index] ?? 0;
      return {
        op: this.opAt(index),
        offset: this.offsets[index] ?? 0,
        length: this.lengths[index] ?? 0,
        fua: (kind & FUA_BIT) !== 0,
        unmap: (kind & UNMAP_BIT) !== 0,
        timeNs: this.timesNs[index] ?? 0,
      };
    });
  }

  #grow(capacity: number): void {
    const { kinds, offsets, lengths, timesNs } = this;
    this.kinds = new Uint8Array(capacity);
    this.offsets = new Float64Array(capacity);
    this.lengths = new Float64Array(capacity);
    this.timesNs = new Float64Array(capacity);
    this.kinds.set(kinds);
    this.offsets.set(offsets);
    this.lengths.set(lengths);
    this.timesNs.set(timesNs);
  }
}
