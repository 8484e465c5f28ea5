/**
 * Which choices go together in an image that is to be made: the rules of `qemu-img create`, each
 * with the way out.
 */

import { isPowerOfTwo } from '../../../core/alignment.ts';
import { bytesOfText } from '../../../core/byte-text.ts';
import { LIMITS } from '../../../core/limits.ts';
import { formatSize } from '../../../core/size.ts';
import type { BrokenRule, LayoutChoices } from '../../image-options.ts';
import { CLUSTER_BITS_MAX, CLUSTER_BITS_MIN, EXTENDED_CLUSTER_MIN } from './layout.ts';

export const DEFAULT_CLUSTER_SIZE = 65_536;

/** The first rule that the choices break; `undefined` if an image can be made so. */
export function impossibleLayout({
  clusterSize = DEFAULT_CLUSTER_SIZE,
  refcounts,
  shape = {},
  backingFile,
}: LayoutChoices): BrokenRule | undefined {
  if (
    !isPowerOfTwo(clusterSize) ||
    clusterSize < 2 ** CLUSTER_BITS_MIN ||
    clusterSize > 2 ** CLUSTER_BITS_MAX
  ) {
    const message = `invalid qcow2 cluster size ${formatSize(clusterSize)}: it must be a power of two from 512B to 2MiB`;
    return { code: 'bad-cluster-size', message };
  }
  const isPreallocated = (shape.preallocation ?? 'off') !== 'off';
  if (backingFile !== undefined && isPreallocated && shape.extendedL2 !== true) {
    const message = `an image with a backing file cannot be preallocated (${String(shape.preallocation)}): its clusters would hide the backing file's data, unless it has subclusters (extended L2 entries)`;
    return { code: 'qcow2-preallocated-overlay', message };
  }
  if (shape.extendedL2 === true && clusterSize < EXTENDED_CLUSTER_MIN) {
    const message = `extended L2 entries need clusters of at least ${formatSize(EXTENDED_CLUSTER_MIN)}: a subcluster is 1/32 of a cluster and at least 512B`;
    return { code: 'qcow2-cluster-too-small', message };
  }
  if (backingFile !== undefined && shape.dataFile === 'raw') {
    const message = 'a raw data file holds the whole disk, so the image cannot have a backing file';
    return { code: 'qcow2-raw-data-file-overlay', message };
  }
  const nameBytes = bytesOfText(backingFile?.name ?? '').byteLength;
  if (nameBytes > LIMITS.backingFileNameBytes) {
    const message = `the backing file's name has ${String(nameBytes)} bytes: at most ${String(LIMITS.backingFileNameBytes)} are allowed`;
    return { code: 'qcow2-backing-name-too-long', message };
  }
  if (shape.compat !== '0.10') return undefined;
  if (shape.extendedL2 === true) return needsNewer('extended L2 entries need');
  if (refcounts === 'lazy') return needsNewer('lazy refcounts need');
  if (shape.refcountBits !== undefined && shape.refcountBits !== 16) {
    return needsNewer(`refcounts of ${String(shape.refcountBits)} bits need`);
  }
  if ((shape.dataFile ?? 'none') !== 'none') return needsNewer('an external data file needs');
  if (shape.compressionType === 'zstd') return needsNewer('zstd-compressed clusters need');
  return undefined;
}

function needsNewer(what: string): BrokenRule {
  return {
    code: 'qcow2-needs-compat-1.1',
    message: `${what} compat 1.1 (qcow2 version 3), not compat 0.10`,
  };
}
