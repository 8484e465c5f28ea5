/**
 * Looking up a guest offset in a slice of extended L2 entries: the longest stretch of subclusters
 * alike.
 *
 * A stretch goes on into the next cluster only from the end of one that is alike to its end, and
 * only where host clusters follow each other in the file: as QEMU cuts its reads and what `qemu-img
 * map` says.
 */

import { remainder } from '../../../core/alignment.ts';
import type { GuestOffset, HostOffset } from '../../../core/offsets.ts';
import { countAlikeAt, subclusterTypeAt, type SubclusterType } from '../on-disk/extended-l2-entry.ts';
import type { Geometry } from '../on-disk/geometry.ts';
import { hostOffsetAt } from '../on-disk/l2-entry.ts';
import { SUBCLUSTERS } from '../on-disk/layout.ts';

export interface SubclusterRange {
  readonly type: SubclusterType;
  /** Bytes, at most the limit. */
  readonly length: number;
  /** Host offset of the first byte; 0 where there is no host cluster. */
  readonly hostOffset: HostOffset;
}

/** @param limit bytes that are asked about; they end within the slice. */
export function lookUpSubclusters(
  slice: DataView,
  place: { readonly guestOffset: GuestOffset; readonly entry: number; readonly limit: number },
  { clusterSize, subclusterSize }: Geometry,
): SubclusterRange {
  const { guestOffset, entry, limit } = place;
  const offsetInCluster = remainder(guestOffset, clusterSize);
  const clusters = Math.ceil((offsetInCluster + limit) / clusterSize);
  const first = Math.floor(offsetInCluster / subclusterSize);
  const type = subclusterTypeAt(slice, 2 * entry, first);
  const hasHost = type === 'normal' || type === 'zero-allocated' || type === 'unallocated-kept';
  const host = hostOffsetAt(slice, 2 * entry);
  let alike = countAlikeAt(slice, 2 * entry, first, SUBCLUSTERS);
  let isWhole = first + alike === SUBCLUSTERS && type !== 'compressed';
  for (let index = 1; index < clusters && isWhole; index++) {
    const word = 2 * (entry + index);
    if (subclusterTypeAt(slice, word, 0) !== type) break;
    if (hasHost && hostOffsetAt(slice, word) !== host + index * clusterSize) break;
    const count = countAlikeAt(slice, word, 0, SUBCLUSTERS);
    alike += count;
    isWhole = count === SUBCLUSTERS;
  }
  const end = (first + alike) * subclusterSize - offsetInCluster;
  return { type, length: Math.min(limit, end), hostOffset: hasHost ? host + offsetInCluster : 0 };
}
