/**
 * What has to be filled around a guest write in an image with extended L2 entries: up to the next
 * subcluster, and in a cluster that is copied all that was allocated in it.
 */

import {
  allocatedMapAt,
  countAlikeAt,
  subclusterTypeAt,
  type SubclusterType,
} from '../on-disk/extended-l2-entry.ts';
import { alignUp } from '../../../core/alignment.ts';
import type { Geometry } from '../on-disk/geometry.ts';
import type { ClusterType } from '../on-disk/l2-entry.ts';
import { SUBCLUSTERS } from '../on-disk/layout.ts';

/** A guest write to clusters that one slice maps. */
export interface WrittenPart {
  readonly slice: DataView;
  /** Entry of the first cluster. */
  readonly first: number;
  readonly clusters: number;
  /** Bytes from the first cluster's start. */
  readonly from: number;
  readonly to: number;
  /** The clusters are the guest's own and stay. */
  readonly inPlace: boolean;
}

export interface SubclusterFill {
  readonly cowHeadFrom: number;
  readonly cowTailTo: number;
  /**
   * What the fill reads from, as far as it is of one type; else `normal`, which is always copied.
   */
  readonly headType: ClusterType;
  readonly tailType: ClusterType;
}

/**
 * `undefined` if all that is written is allocated already; `invalid` if an entry breaks a rule of
 * the format.
 */
export function subclusterFill(
  part: WrittenPart,
  geometry: Geometry,
): SubclusterFill | 'invalid' | undefined {
  const { slice, first, clusters, from, to, inPlace } = part;
  const { clusterSize, subclusterSize } = geometry;
  let isOverwrite = inPlace;
  for (let index = 0; index < clusters; index++) {
    const word = 2 * (first + index);
    if (subclusterTypeAt(slice, word, 0) === 'invalid') return 'invalid';
    if (!isOverwrite) continue;
    const start = Math.floor(Math.max(from - index * clusterSize, 0) / subclusterSize);
    const end = Math.ceil(Math.min(to - index * clusterSize, clusterSize) / subclusterSize);
    isOverwrite =
      subclusterTypeAt(slice, word, start) === 'normal' &&
      countAlikeAt(slice, word, start, end) === end - start;
  }
  if (isOverwrite) return undefined;

  const headWord = 2 * first;
  const headSubcluster = Math.floor(from / subclusterSize);
  const cowHeadFrom = headFrom(part, headWord, headSubcluster, subclusterSize);

  const lastStart = (clusters - 1) * clusterSize;
  const tailWord = 2 * (first + clusters - 1);
  const tailSubcluster = Math.floor((to - 1 - lastStart) / subclusterSize);
  const cowTailTo = tailTo(part, tailWord, tailSubcluster, geometry);
  return {
    cowHeadFrom,
    cowTailTo,
    headType: typeOf(slice, headWord, cowHeadFrom / subclusterSize, from / subclusterSize),
    tailType: typeOf(
      slice,
      tailWord,
      (to - lastStart) / subclusterSize,
      (cowTailTo - lastStart) / subclusterSize,
    ),
  };
}

function headFrom(part: WrittenPart, word: number, subcluster: number, subclusterSize: number): number {
  const { slice, from, inPlace } = part;
  const type = subclusterTypeAt(slice, word, subcluster);
  if (type === 'compressed') return 0;
  if (inPlace) return type === 'normal' ? from : subcluster * subclusterSize;
  if (type === 'unallocated' || type === 'zero') return subcluster * subclusterSize;
  // A shared cluster is copied from its first allocated subcluster on.
  return Math.min(subcluster, lowestBit(allocatedMapAt(slice, word))) * subclusterSize;
}

function tailTo(
  part: WrittenPart,
  word: number,
  subcluster: number,
  { clusterSize, subclusterSize }: Geometry,
): number {
  const { slice, to, inPlace } = part;
  const type = subclusterTypeAt(slice, word, subcluster);
  if (type === 'compressed') return alignUp(to, clusterSize);
  if (inPlace) return type === 'normal' ? to : alignUp(to, subclusterSize);
  if (type === 'unallocated' || type === 'zero') return alignUp(to, subclusterSize);
  const unused = Math.min(SUBCLUSTERS - subcluster - 1, Math.clz32(allocatedMapAt(slice, word)));
  return alignUp(to, clusterSize) - unused * subclusterSize;
}

/**
 * The type of all that is in a part of a cluster, given in subclusters; `normal` if it is not of
 * one type.
 */
function typeOf(slice: DataView, word: number, from: number, to: number): ClusterType {
  if (to <= from) return 'normal';
  const first = Math.floor(from);
  const end = Math.ceil(to);
  if (countAlikeAt(slice, word, first, end) < end - first) return 'normal';
  return asClusterType(subclusterTypeAt(slice, word, first));
}

/** The type of a whole cluster that is treated alike. */
function asClusterType(type: SubclusterType): ClusterType {
  switch (type) {
    case 'unallocated-kept':
      return 'unallocated';
    case 'invalid':
      return 'normal';
    case 'unallocated':
    case 'zero':
    case 'zero-allocated':
    case 'normal':
    case 'compressed':
      return type;
  }
}

/** 32 if there is none. */
function lowestBit(map: number): number {
  return map === 0 ? 32 : 31 - Math.clz32(map & -map);
}
