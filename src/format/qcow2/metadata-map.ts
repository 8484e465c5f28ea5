/**
 * Which host clusters hold metadata, so that no write meant for something else ever lands there.
 *
 * This answers what QEMU's default overlap checks answer (header, active and inactive L1, active L2,
 * refcount table and blocks, snapshot table, bitmap directory) in one look-up a cluster, where QEMU walks the tables.
 *
 * Invariant: whoever moves a table tells this map, in the same step in which its pointer changes.
 */

import type { Purpose } from '../../device/purpose.ts';
import type { HeaderStore } from './header-store.ts';

export type MetadataKind = Extract<
  Purpose,
  'header' | 'l1-table' | 'l2-table' | 'refcount-table' | 'refcount-block' | 'snapshot-table' | 'bitmap'
>;

export class MetadataMap {
  readonly #clusterSize: number;
  readonly #kinds = new Map<number, MetadataKind>();

  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
    this.#kinds.set(0, 'header');
  }

  /** Notes that the clusters of a range hold `kind`. */
  add(hostOffset: number, length: number, kind: MetadataKind): void {
    const last = this.#lastCluster(hostOffset, length);
    for (let cluster = this.#clusterOf(hostOffset); cluster <= last; cluster++) {
      this.#kinds.set(cluster, kind);
    }
  }

  /** Notes that a table of `kind` no longer lies in a range. */
  remove(hostOffset: number, length: number, kind: MetadataKind): void {
    const last = this.#lastCluster(hostOffset, length);
    for (let cluster = this.#clusterOf(hostOffset); cluster <= last; cluster++) {
      if (this.#kinds.get(cluster) === kind) this.#kinds.delete(cluster);
    }
  }

  /** The kind of metadata other than `own` that a write to the range would damage. */
  overlap(hostOffset: number, length: number, own: MetadataKind | undefined): MetadataKind | undefined {
    const last = this.#lastCluster(hostOffset, length);
    for (let cluster = this.#clusterOf(hostOffset); cluster <= last; cluster++) {
      const kind = this.#kinds.get(cluster);
      if (kind !== undefined && kind !== own) return kind;
    }
    return undefined;
  }

  #clusterOf(hostOffset: number): number {
    return Math.floor(hostOffset / this.#clusterSize);
  }

  #lastCluster(hostOffset: number, length: number): number {
    return Math.floor((hostOffset + length - 1) / this.#clusterSize);
  }
}

/** What a cache of tables of kind `own` asks before it writes one: it throws if other metadata lies there. */
export function tableGuard(
  header: HeaderStore,
  metadata: MetadataMap,
  own: 'l2-table' | 'refcount-block',
): (offset: number, length: number) => undefined | Promise<never> {
  return (offset, length) => {
    const kind = metadata.overlap(offset, length, own);
    if (kind === undefined) return undefined;
    const what = `a write of a table of the ${own} cache would overwrite the ${kind}`;
    return header.stopAsCorrupt(what, offset);
  };
}
