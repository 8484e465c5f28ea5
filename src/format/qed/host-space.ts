/**
 * The host file as a row of clusters: where it ends, and which offsets may be in a table.
 *
 * Invariants: space is only ever taken at the end and never given back (QED has no free list); a
 * part of a cluster at the end, which an interrupted write leaves, counts as free and is taken
 * again. The file is as long as QEMU has it, in whole sectors.
 */

import { alignDown, alignUp, isAligned, SECTOR_SIZE } from '../../core/alignment.ts';
import type { HostOffset } from '../../core/offsets.ts';
import { type QedGeometry } from './geometry.ts';

export class HostSpace {
  readonly #geometry: QedGeometry;
  #end: HostOffset;

  /** @param fileSize bytes of the file at opening. */
  constructor(geometry: QedGeometry, fileSize: number) {
    this.#geometry = geometry;
    this.#end = alignDown(alignUp(fileSize, SECTOR_SIZE), geometry.clusterSize);
  }

  /** Host offset behind the last cluster in use, bytes. */
  get end(): HostOffset {
    return this.#end;
  }

  /** Takes clusters that follow one another; answers the host offset of the first. */
  allocate(clusters: number): HostOffset {
    const hostOffset = this.#end;
    this.#end += clusters * this.#geometry.clusterSize;
    return hostOffset;
  }

  /** Whether a data cluster may be at `hostOffset`. */
  holdsCluster(hostOffset: HostOffset): boolean {
    const { clusterSize, headerSize } = this.#geometry;
    return isAligned(hostOffset, clusterSize) && hostOffset >= headerSize && hostOffset < this.#end;
  }

  /** Whether a whole table may be at `hostOffset`. */
  holdsTable(hostOffset: HostOffset): boolean {
    return this.holdsCluster(hostOffset) && hostOffset + this.#geometry.tableSize <= this.#end;
  }
}
