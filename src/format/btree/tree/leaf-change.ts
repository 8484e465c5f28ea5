/**
 * What becomes of a leaf's extents where a range of guest blocks is mapped: those it overlaps are cut or
 * go, and what follows one another in the file becomes one extent.
 *
 * Invariant: one set of arrays serves all changes, so that none is made for a request.
 */

import { NO_EXTENT, ZERO_EXTENT } from '../on-disk/layout.ts';
import { endOfExtent, entryAt, EXTENT_FIELD, lastAtOrBelow } from '../on-disk/node.ts';

/** Extents that are put: before the range, the range, behind it. */
const MOST = 3;

export class LeafChange {
  /** Entries that overlap the range: from `first` up to `last`. */
  first = 0;
  last = 0;
  /** Entries that are replaced: those, and neighbours that the range continues. */
  from = 0;
  to = 0;
  /** Extents in their place. */
  count = 0;
  readonly #guest = new Float64Array(MOST);
  readonly #blocks = new Float64Array(MOST);
  readonly #host = new Float64Array(MOST);
  readonly #epoch = new Float64Array(MOST);

  /** Whether anything changes. */
  plan(
    view: DataView,
    entries: number,
    range: { readonly guest: number; readonly end: number },
    host: number,
    epoch: number,
  ): boolean {
    const { guest, end } = range;
    let first = lastAtOrBelow(view, entries, guest);
    if (first < 0 || endOfExtent(view, first) <= guest) first++;
    let last = first;
    while (last < entries && view.getUint32(entryAt(last), true) < end) last++;
    const overlaps = last > first;
    if (host === NO_EXTENT && !overlaps) return false;
    const cutsFirst = overlaps && view.getUint32(entryAt(first), true) < guest;
    const cutsLast = overlaps && endOfExtent(view, last - 1) > end;
    if (host === ZERO_EXTENT && last - first === 1 && isZeroOver(view, first, guest, end)) return false;
    this.first = first;
    this.last = last;
    this.from = first;
    this.to = last;
    this.count = 0;
    if (host !== NO_EXTENT && !cutsFirst && first > 0 && continues(view, first - 1, guest, host, epoch)) {
      this.from--;
      this.#addEntry(view, this.from);
    }
    if (cutsFirst) this.#addPart(view, first, view.getUint32(entryAt(first), true), guest);
    if (host !== NO_EXTENT) this.#add(guest, end - guest, host, epoch);
    if (cutsLast) this.#addPart(view, last - 1, end, endOfExtent(view, last - 1));
    else if (host !== NO_EXTENT && last < entries && this.#isContinuedBy(view, last)) {
      this.#addEntry(view, last);
      this.to++;
    }
    return true;
  }

  /** Writes the new extents to the leaf, which has made room for them. */
  put(view: DataView): void {
    for (let index = 0; index < this.count; index++) {
      const at = entryAt(this.from + index);
      view.setUint32(at + EXTENT_FIELD.guest, this.#guest[index] as number, true);
      view.setUint32(at + EXTENT_FIELD.blocks, this.#blocks[index] as number, true);
      view.setUint32(at + EXTENT_FIELD.host, this.#host[index] as number, true);
      view.setUint32(at + EXTENT_FIELD.epoch, this.#epoch[index] as number, true);
    }
  }

  #addEntry(view: DataView, index: number): void {
    this.#addPart(view, index, view.getUint32(entryAt(index), true), endOfExtent(view, index));
  }

  /** Adds what of an extent is in the range of guest blocks. */
  #addPart(view: DataView, index: number, guest: number, end: number): void {
    const at = entryAt(index);
    const host = view.getUint32(at + EXTENT_FIELD.host, true);
    const into = guest - view.getUint32(at + EXTENT_FIELD.guest, true);
    const place = host === ZERO_EXTENT ? ZERO_EXTENT : host + into;
    this.#add(guest, end - guest, place, view.getUint32(at + EXTENT_FIELD.epoch, true));
  }

  /** Adds an extent, or lengthens the last one. */
  #add(guest: number, blocks: number, host: number, epoch: number): void {
    const last = this.count - 1;
    if (last >= 0) {
      const before = this.#host[last] as number;
      const length = this.#blocks[last] as number;
      const isNext = isContinued(before, length, host) && this.#epoch[last] === epoch;
      if (isNext) {
        this.#blocks[last] = length + blocks;
        return;
      }
    }
    const next = this.count++;
    this.#guest[next] = guest;
    this.#blocks[next] = blocks;
    this.#host[next] = host;
    this.#epoch[next] = epoch;
  }

  /** Whether an extent begins where the last one added ends, in the file too. */
  #isContinuedBy(view: DataView, index: number): boolean {
    const last = this.count - 1;
    const blocks = this.#blocks[last] as number;
    const at = entryAt(index);
    if (view.getUint32(at, true) !== (this.#guest[last] as number) + blocks) return false;
    if (view.getUint32(at + EXTENT_FIELD.epoch, true) !== this.#epoch[last]) return false;
    return isContinued(this.#host[last] as number, blocks, view.getUint32(at + EXTENT_FIELD.host, true));
  }
}

/** Whether an extent is what comes directly before `guest`, in the file before `host`. */
function continues(view: DataView, index: number, guest: number, host: number, epoch: number): boolean {
  const at = entryAt(index);
  if (endOfExtent(view, index) !== guest || view.getUint32(at + EXTENT_FIELD.epoch, true) !== epoch) {
    return false;
  }
  const blocks = view.getUint32(at + EXTENT_FIELD.blocks, true);
  return isContinued(view.getUint32(at + EXTENT_FIELD.host, true), blocks, host);
}

function isContinued(before: number, blocks: number, host: number): boolean {
  return before === ZERO_EXTENT ? host === ZERO_EXTENT : before + blocks === host;
}

function isZeroOver(view: DataView, index: number, guest: number, end: number): boolean {
  const at = entryAt(index);
  const isZero = view.getUint32(at + EXTENT_FIELD.host, true) === ZERO_EXTENT;
  return isZero && view.getUint32(at, true) <= guest && endOfExtent(view, index) >= end;
}
