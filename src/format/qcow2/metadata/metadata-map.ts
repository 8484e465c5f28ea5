/**
 * Which host clusters hold metadata, so that no write meant for something else ever lands there.
 *
 * This answers what QEMU's default overlap checks answer (header, active and inactive L1, active
 * L2, refcount table and blocks, snapshot table, bitmap directory) in one look-up a cluster, where
 * QEMU walks the tables.
 *
 * Invariants: code that moves a table updates this map in the same step as its pointer. In a
 * damaged image one cluster may be of several kinds, an L2 table that is on the refcount table:
 * none hides another.
 */

import type { HostCluster, HostOffset } from '../../../core/offsets.ts';
import type { Purpose } from '../../../device/purpose.ts';
import type { HeaderStore } from './header-store.ts';

export type MetadataKind = Extract<
  Purpose,
  'header' | 'l1-table' | 'l2-table' | 'refcount-table' | 'refcount-block' | 'snapshot-table' | 'bitmap'
>;

/** A bit for each kind; where a cluster has several, errors name the first. */
const BIT: Readonly<Record<MetadataKind, number>> = {
  header: 1,
  'l1-table': 2,
  'refcount-table': 4,
  'refcount-block': 8,
  'snapshot-table': 16,
  bitmap: 32,
  'l2-table': 64,
};
const KINDS = Object.keys(BIT) as readonly MetadataKind[];

/** A range of bytes that is said to hold a table. */
export interface MetadataClaim {
  readonly hostOffset: HostOffset;
  readonly length: number;
  readonly kind: MetadataKind;
}

export class MetadataMap {
  readonly #clusterSize: number;
  /** By cluster: the bits of what it holds; never 0. */
  readonly #kinds = new Map<HostCluster, number>();
  /**
   * Tables that an image under check claims to have, in order and apart from each other; empty
   * otherwise.
   */
  #claims: readonly MetadataClaim[] = [];

  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
    this.#kinds.set(0, BIT.header);
  }

  /** Notes that the clusters of a range hold `kind`. */
  add(hostOffset: HostOffset, length: number, kind: MetadataKind): void {
    const last = this.#lastCluster(hostOffset, length);
    for (let cluster = this.#clusterOf(hostOffset); cluster <= last; cluster++) {
      this.#kinds.set(cluster, (this.#kinds.get(cluster) ?? 0) | BIT[kind]);
    }
  }

  /**
   * Takes over where an image under check claims further tables to be, in place of the claims
   * before.
   */
  setClaims(claims: readonly MetadataClaim[]): void {
    const merged: MetadataClaim[] = [];
    for (const claim of claims.toSorted((a, b) => a.hostOffset - b.hostOffset)) {
      const { hostOffset, length, kind } = claim;
      const last = merged.at(-1);
      if (length <= 0 || !Number.isSafeInteger(hostOffset + length)) continue;
      if (last === undefined || last.hostOffset + last.length <= hostOffset) merged.push(claim);
      else {
        merged[merged.length - 1] = {
          ...last,
          length: Math.max(last.length, hostOffset + length - last.hostOffset),
          kind,
        };
      }
    }
    this.#claims = merged;
  }

  /** Notes that a table of `kind` no longer is in a range. */
  remove(hostOffset: HostOffset, length: number, kind: MetadataKind): void {
    const last = this.#lastCluster(hostOffset, length);
    for (let cluster = this.#clusterOf(hostOffset); cluster <= last; cluster++) {
      const left = (this.#kinds.get(cluster) ?? 0) & ~BIT[kind];
      if (left === 0) this.#kinds.delete(cluster);
      else this.#kinds.set(cluster, left);
    }
  }

  /** The kind of metadata other than `own` that a write to the range would damage. */
  overlap(hostOffset: HostOffset, length: number, own: MetadataKind | undefined): MetadataKind | undefined {
    const others = own === undefined ? -1 : ~BIT[own];
    const last = this.#lastCluster(hostOffset, length);
    for (let cluster = this.#clusterOf(hostOffset); cluster <= last; cluster++) {
      const found = (this.#kinds.get(cluster) ?? 0) & others;
      if (found !== 0) return KINDS.find((kind) => (found & BIT[kind]) !== 0);
    }
    return this.#claims.length === 0 ? undefined : this.#claimed(hostOffset, length);
  }

  #claimed(hostOffset: HostOffset, length: number): MetadataKind | undefined {
    const first = this.#clusterOf(hostOffset) * this.#clusterSize;
    const end = (this.#lastCluster(hostOffset, length) + 1) * this.#clusterSize;
    // The last claim that begins before the end: no other can reach farther.
    let low = 0;
    let high = this.#claims.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#claims[middle] as MetadataClaim).hostOffset < end) low = middle + 1;
      else high = middle;
    }
    const claim = this.#claims[low - 1];
    return claim !== undefined && claim.hostOffset + claim.length > first ? claim.kind : undefined;
  }

  #clusterOf(hostOffset: HostOffset): HostCluster {
    return Math.floor(hostOffset / this.#clusterSize);
  }

  /**
   * -1, which ends every walk, for an offset of a damaged entry at which nothing can be: `cluster +
   * 1` could be `cluster`.
   */
  #lastCluster(hostOffset: HostOffset, length: number): HostCluster {
    if (!Number.isSafeInteger(hostOffset + length)) return -1;
    return Math.floor((hostOffset + length - 1) / this.#clusterSize);
  }
}

/**
 * What a cache of tables of kind `own` asks before it writes one: it throws if other metadata is
 * there.
 */
export function tableGuard(
  header: HeaderStore,
  metadata: MetadataMap,
  own: 'l2-table' | 'refcount-block',
): (offset: HostOffset, length: number) => undefined | Promise<never> {
  return (offset, length) => {
    const kind = metadata.overlap(offset, length, own);
    if (kind === undefined) return undefined;
    const what = `a write of a table of the ${own} cache would overwrite the ${kind}`;
    return header.markCorruptAt(what, offset);
  };
}
