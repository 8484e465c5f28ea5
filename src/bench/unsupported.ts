/**
 * Why a cell cannot be counted or timed here, known before anything is created, as text for users
 * after "skipped: ".
 *
 * Invariant: a supported cell is never served another way than it says: not buffered where it asks
 * for O_DIRECT, not timed on writes of zeroes where its counts have zero-ranges.
 */

import { isPowerOfTwo, SECTOR_SIZE } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import { LIMITS } from '../core/limits.ts';
import { formatSize } from '../core/size.ts';
import type { Capabilities } from '../device/capabilities.ts';
import { CACHE_MODE_RULES } from '../format/cache-mode.ts';
import type { CacheSizes } from '../format/cache-sizes.ts';
import type { Format } from '../format/disk-image.ts';
import type { ImageShape } from '../format/image-shape.ts';
import { cacheGeometry } from '../format/qcow2/metadata/cache-geometry.ts';
import { geometryOf } from '../format/qcow2/on-disk/geometry.ts';
import { impossibleImage } from '../format/registry.ts';
import type { Cell, GuestCounts } from '../result/schema.ts';
import { phasesOf, type Workload } from '../workload/schema.ts';
import { unsupportedChain } from './backing-layers.ts';
import type { CellPlan } from './engine.ts';

/** Bytes of a cluster, and whether the format has clusters at all. */
const CLUSTER_SIZES: Readonly<Record<Format, { readonly min: number; readonly max: number } | undefined>> = {
  raw: undefined,
  qcow2: { min: 512, max: 2 * 1024 * 1024 },
  qed: { min: 4096, max: 64 * 1024 * 1024 },
};
/**
 * A QED table has this many clusters, and entries of 8 bytes, in images made here and by qemu-img.
 */
const QED_TABLE_CLUSTERS = 4;
const ENTRY_BYTES = 8;

/** What the format itself does not take, wherever it is. */
export function unsupportedByFormat(plan: CellPlan): string | undefined {
  const { cell, source, userImage } = plan;
  const { format, refcounts } = cell;
  // It exists, so it is possible.
  if (userImage !== undefined) {
    const { virtualSize, clusterSize, shape } = userImage;
    return clusterSize === null
      ? undefined
      : unsupportedCaches(cell.caches, { virtualSize, clusterSize, shape });
  }
  const clusterSize = cell.clusterSize ?? undefined;
  const limits = CLUSTER_SIZES[format];
  if (refcounts !== null && format !== 'qcow2') return `${format} has no ${refcounts} refcounts`;
  if (format === 'raw' && cell.backing !== undefined) return 'raw has no backing files';
  const brokenChain = unsupportedChain(plan);
  if (brokenChain !== undefined) return brokenChain;
  if (clusterSize !== undefined && limits === undefined) return `${format} has no clusters`;
  if (source.virtualSize % SECTOR_SIZE !== 0) {
    return `a disk of ${String(source.virtualSize)} bytes is not a multiple of ${String(SECTOR_SIZE)}`;
  }
  if (clusterSize === undefined || limits === undefined) {
    return impossibleImage({ format, shape: cell.shape })?.message;
  }
  if (!isPowerOfTwo(clusterSize) || clusterSize < limits.min || clusterSize > limits.max) {
    return (
      `${format} does not support clusters of ${formatSize(clusterSize)}: ` +
      `it must be a power of two from ${formatSize(limits.min)} to ${formatSize(limits.max)}`
    );
  }
  return format === 'qed'
    ? unsupportedByQed(source.virtualSize, clusterSize)
    : unsupportedByQcow2(cell, { virtualSize: source.virtualSize, clusterSize });
}

/** What the place where the image would be cannot do. */
export function unsupportedByPlace({ cell }: CellPlan, capabilities: Capabilities): string | undefined {
  const { direct } = capabilities;
  if (!CACHE_MODE_RULES[cell.cache].direct || direct.ok) return undefined;
  return `cache mode ${cell.cache} needs O_DIRECT, but ${direct.reason}`;
}

/** Why times taken at this place would be of other operations than those that were counted. */
export function unsupportedZeroing(plan: CellPlan, capabilities: Capabilities): string | undefined {
  const reason = missingZeroing(capabilities);
  if (reason === undefined || !mayZero(plan)) return undefined;
  return `${plan.cell.format} zeroes ranges with fallocate, but ${reason}`;
}

/** Why zero-ranges or holes are not supported at this place; `undefined` if they are. */
function missingZeroing({ zeroRange, punchHole }: Capabilities): string | undefined {
  if (!zeroRange.ok) return zeroRange.reason;
  return punchHole.ok ? undefined : punchHole.reason;
}

/** What ran in place of zero-ranges and holes at this place, where some would have been issued. */
export function zeroingFallback(
  { format, discard }: Pick<Cell, 'format' | 'discard'>,
  { zeroRange, punchHole }: Capabilities,
  guest: GuestCounts,
): readonly string[] {
  const served = discard === 'ignore' ? 0 : guest.discards;
  const allocates = format === 'qcow2' && guest.allocatingWrites > 0;
  if (!allocates && (format === 'qed' || served + guest.writeZeroes === 0)) return [];
  if (!zeroRange.ok && punchHole.ok) {
    return [`ranges are zeroed by punching a hole and reserving the space again: ${zeroRange.reason}`];
  }
  if (!zeroRange.ok) return [`zeroes are written as data and discards do nothing: ${zeroRange.reason}`];
  return punchHole.ok ? [] : [`discards and freed clusters release no space: ${punchHole.reason}`];
}

/** Whether serving the requests may zero ranges or punch holes. QED never does. */
function mayZero({ cell, source }: CellPlan): boolean {
  switch (cell.format) {
    case 'qcow2':
      return true;
    case 'qed':
      return false;
    case 'raw':
      // A recording would have to be read to know.
      return source.kind === 'recording' || dropsData(source.workload, cell);
  }
}

function dropsData({ phases }: Workload, { discard }: Cell): boolean {
  return phasesOf(phases).some(({ mix }) => mix.writeZeroes > 0 || (mix.discard > 0 && discard !== 'ignore'));
}

function unsupportedByQcow2(
  { refcounts, shape, caches, backing }: Cell,
  { virtualSize, clusterSize }: { readonly virtualSize: number; readonly clusterSize: number },
): string | undefined {
  const broken = impossibleImage({
    format: 'qcow2',
    clusterSize,
    refcounts: refcounts ?? undefined,
    shape,
    backingFile: backing === undefined ? undefined : { name: 'backing', format: backing },
  });
  if (broken !== undefined) return broken.message;
  const { l2Coverage } = geometryOf(clusterSize, shape);
  const sizeMax = (LIMITS.l1TableBytes / ENTRY_BYTES) * l2Coverage;
  if (virtualSize > sizeMax) return tooLarge('qcow2', { virtualSize, sizeMax, clusterSize });
  return unsupportedCaches(caches, { virtualSize, clusterSize, shape });
}

/** Why caches of such sizes cannot be had. */
function unsupportedCaches(
  caches: CacheSizes | undefined,
  image: {
    readonly virtualSize: number;
    readonly clusterSize: number;
    readonly shape: ImageShape | undefined;
  },
): string | undefined {
  if (caches === undefined) return undefined;
  try {
    cacheGeometry(geometryOf(image.clusterSize, image.shape), image.virtualSize, caches);
    return undefined;
  } catch (error) {
    if (error instanceof Qcow2BenchError) return error.message;
    throw error;
  }
}

function unsupportedByQed(virtualSize: number, clusterSize: number): string | undefined {
  const tableBytes = QED_TABLE_CLUSTERS * clusterSize;
  if (tableBytes > LIMITS.l1TableBytes) {
    return (
      `qed tables of ${formatSize(tableBytes)} (${String(QED_TABLE_CLUSTERS)} clusters of ${formatSize(clusterSize)}) ` +
      `exceed the limit of ${formatSize(LIMITS.l1TableBytes)}`
    );
  }
  const entries = tableBytes / ENTRY_BYTES;
  const sizeMax = entries * entries * clusterSize;
  return virtualSize > sizeMax ? tooLarge('qed', { virtualSize, sizeMax, clusterSize }) : undefined;
}

function tooLarge(
  format: Format,
  sizes: { readonly virtualSize: number; readonly sizeMax: number; readonly clusterSize: number },
): string {
  return (
    `a disk of ${formatSize(sizes.virtualSize)} exceeds the ${formatSize(sizes.sizeMax)} ` +
    `that ${format} addresses with clusters of ${formatSize(sizes.clusterSize)}`
  );
}
