/**
 * Where on the guest's disk the data writes of one request lie.
 *
 * The clusters' owners before and after the run identify them, unless a cluster changed hands in
 * between. So the writes are fitted together: each byte of the request is in one of them, and a
 * write is contiguous on the guest's disk.
 *
 * Invariants:
 * - A write holds fill only before the request's first byte and behind its last; else it begins and
 *   ends where guest clusters do, or where the one before it ended.
 * - Of several ways to fit them the first is taken that believes the owners, in the order of issue.
 * - The search is bounded; without a result the owners alone are believed.
 */

import type { Format } from '../format/disk-image.ts';
import type { Request } from '../workload/request.ts';
import type { HostOperation } from './host-operation.ts';
import type { FileLayout } from '../format/file-layout.ts';

export interface LayoutsOfRun {
  readonly format: Format;
  readonly before: FileLayout;
  readonly after: FileLayout;
}

/** Steps of a search; usual requests take one a write. */
const STEPS_MAX = 20_000;

/** The guest offset of the first byte of each of `writes`, in their order. */
export function guestPlaces(
  request: Request,
  writes: readonly HostOperation[],
  layouts: LayoutsOfRun,
): readonly number[] {
  const fit = new Fit(request, writes, layouts);
  // A zero-write writes parts of clusters only, at its ends: its writes do not add up to it.
  const isFitted = request.op === 'write' && !fit.isKnown() && fit.search();
  return writes.map((write, index) => {
    if (isFitted) return fit.places[index] ?? fit.fillPlace(write);
    const known = fit.known[index];
    // QED fills around a zero-write too, and never gives a cluster to others.
    if (known !== undefined && (request.op === 'write' || layouts.format === 'qed')) return known;
    return fit.placeWithin(
      write,
      [known, request.offset, request.offset + request.length - write.length],
      known,
    );
  });
}

class Fit {
  /** By what the owners say. */
  readonly known: readonly (number | undefined)[];
  /** Of the writes that hold bytes of the request, when the search has succeeded. */
  readonly places: (number | undefined)[];
  readonly #start: number;
  readonly #end: number;
  readonly #clusterSize: number;
  readonly #writes: readonly HostOperation[];
  #steps = 0;

  constructor(request: Request, writes: readonly HostOperation[], layouts: LayoutsOfRun) {
    this.#start = request.offset;
    this.#end = request.offset + request.length;
    this.#clusterSize = layouts.after.clusterSize;
    this.#writes = writes;
    this.known = writes.map((write) => knownPlace(request, write, layouts));
    this.places = writes.map(() => undefined);
  }

  /** Whether the owners tell of every write, and these make up the request. */
  isKnown(): boolean {
    const ranges: { readonly from: number; readonly to: number }[] = [];
    for (const [index, { length }] of this.#writes.entries()) {
      const place = this.known[index];
      if (place === undefined) return false;
      const [from, to] = [Math.max(this.#start, place), Math.min(this.#end, place + length)];
      if (from < to) ranges.push({ from, to });
    }
    let next = this.#start;
    for (const { from, to } of ranges.sort((left, right) => left.from - right.from)) {
      if (from !== next) return false;
      next = to;
    }
    return next === this.#end;
  }

  /** Whether the writes could be fitted together. */
  search(): boolean {
    return this.#coverFrom(this.#start);
  }

  /** Fill alone ends where the request begins, or begins where it ends. */
  fillPlace({ offset, length }: HostOperation): number {
    const isHead = (offset + length) % this.#clusterSize === this.#start % this.#clusterSize;
    return isHead ? this.#start - length : this.#end;
  }

  /**
   * The first of `candidates` at which all of a write holds bytes of the request; otherwise
   * `known`, or its start.
   */
  placeWithin(
    { offset, length }: HostOperation,
    candidates: readonly (number | undefined)[],
    known: number | undefined,
  ): number {
    const size = this.#clusterSize;
    const isWithin = (place: number | undefined): boolean =>
      place !== undefined &&
      place >= this.#start &&
      place + length <= this.#end &&
      place % size === offset % size;
    return candidates.find(isWithin) ?? known ?? this.#start;
  }

  /** Covers what is left of the request from a guest offset on. */
  #coverFrom(next: number): boolean {
    if (next >= this.#end) return true;
    if (this.#steps++ >= STEPS_MAX) return false;
    for (const believes of [true, false]) {
      for (const [index, write] of this.#writes.entries()) {
        if (this.places[index] !== undefined) continue;
        const place = this.#placeAt(write, next);
        if (place === undefined || (this.known[index] === place) !== believes) continue;
        this.places[index] = place;
        if (this.#coverFrom(place + write.length)) return true;
        this.places[index] = undefined;
      }
    }
    return false;
  }

  /**
   * Where a write would be whose first byte of the request is `next`; `undefined` if it cannot be
   * that.
   */
  #placeAt({ offset, length }: HostOperation, next: number): number | undefined {
    const size = this.#clusterSize;
    const head = (((next - offset) % size) + size) % size;
    if (head >= length || (head > 0 && next !== this.#start)) return undefined;
    const isCut = next - head + length < this.#end;
    return isCut && (offset + length) % size !== 0 ? undefined : next - head;
  }
}

/**
 * Where most bytes of a write lie by what the layouts say of its clusters, if the request touches
 * any of them.
 */
function knownPlace(
  request: Request,
  { offset, length }: HostOperation,
  { before, after }: LayoutsOfRun,
): number | undefined {
  const votes = new Map<number, number>();
  const { clusterSize } = after;
  for (let at = offset; at < offset + length;) {
    const end = Math.min(offset + length, (Math.floor(at / clusterSize) + 1) * clusterSize);
    for (const layout of [after, before]) {
      const guestOffset = layout.guestOffsetAt(at);
      if (guestOffset === undefined || !touches(request, guestOffset, clusterSize)) continue;
      const place = guestOffset - (at - offset);
      votes.set(place, (votes.get(place) ?? 0) + end - at);
      break;
    }
    at = end;
  }
  let [best, most]: [number | undefined, number] = [undefined, 0];
  for (const [place, bytes] of votes) if (bytes > most) [best, most] = [place, bytes];
  return best;
}

/** Whether the guest cluster around an offset holds bytes of the request. */
function touches({ offset, length }: Request, guestOffset: number, clusterSize: number): boolean {
  const start = guestOffset - (guestOffset % clusterSize);
  return start + clusterSize > offset && start < offset + length;
}
