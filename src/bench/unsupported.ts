/**
 * Why a cell cannot be counted or timed here, known before anything is created, as text for users
 * after "skipped: ".
 *
 * Invariant: a supported cell is never served another way than it says: not buffered where it asks
 * for O_DIRECT, not timed on writes of zeroes where its counts have zero-ranges.
 */

import { isPowerOfTwo, SECTOR_SIZE } from '../core/alignment.ts';
import { formatSize } from '../core/size.ts';
import type { Capabilities } from '../device/capabilities.ts';
import { CACHE_MODE_RULES } from '../format/cache-mode.ts';
import type { ClusteredDisk } from '../format/format-facts.ts';
import { FORMAT_FACTS } from '../format/formats.ts';
import { unsupportedNoUnref } from '../format/qemu-profile.ts';
import { impossibleImage } from '../format/registry.ts';
import { profileOf } from '../result/cell.ts';
import type { Cell, GuestCounts } from '../result/schema.ts';
import { phasesOf, type Workload } from '../workload/schema.ts';
import { unsupportedChain } from './backing-layers.ts';
import type { CellPlan } from './engine.ts';

/** What the format itself does not take, wherever it is. */
export function unsupportedByFormat(plan: CellPlan): string | undefined {
  const { cell, source, userImage } = plan;
  const { format, refcounts } = cell;
  const facts = FORMAT_FACTS[format];
  const noUnref = cell.discardNoUnref === true ? unsupportedByNoUnref(cell) : undefined;
  if (noUnref !== undefined) return noUnref;
  // It exists, so it is possible.
  if (userImage !== undefined) {
    const { virtualSize, clusterSize, shape } = userImage;
    return clusterSize === null ? undefined : unsupportedCaches(cell, { virtualSize, clusterSize, shape });
  }
  const clusterSize = cell.clusterSize ?? undefined;
  const limits = facts.clusterSizes;
  if (refcounts !== null && !facts.refcountModes.includes(refcounts)) {
    return `${format} has no ${refcounts} refcounts`;
  }
  if (facts.backing === 'none' && cell.backing !== undefined) return `${format} has no backing files`;
  const brokenChain = unsupportedChain(plan);
  if (brokenChain !== undefined) return brokenChain;
  if (clusterSize !== undefined && limits === undefined) return `${format} has no clusters`;
  if (source.virtualSize % SECTOR_SIZE !== 0) {
    return `a disk of ${String(source.virtualSize)} bytes is not a multiple of ${String(SECTOR_SIZE)}`;
  }
  if (clusterSize !== undefined && limits !== undefined) {
    const isAllowed = isPowerOfTwo(clusterSize) && clusterSize >= limits.min && clusterSize <= limits.max;
    if (!isAllowed) {
      return (
        `${format} does not support clusters of ${formatSize(clusterSize)}: ` +
        `it must be a power of two from ${formatSize(limits.min)} to ${formatSize(limits.max)}`
      );
    }
  }
  return unsupportedLayout(cell, { virtualSize: source.virtualSize, clusterSize });
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
  const { zeroing } = FORMAT_FACTS[format];
  const allocates = zeroing === 'on-allocation' && guest.allocatingWrites > 0;
  if (!allocates && (zeroing === 'never' || served + guest.writeZeroes === 0)) return [];
  if (!zeroRange.ok && punchHole.ok) {
    return [`ranges are zeroed by punching a hole and reserving the space again: ${zeroRange.reason}`];
  }
  if (!zeroRange.ok) return [`zeroes are written as data and discards do nothing: ${zeroRange.reason}`];
  return punchHole.ok ? [] : [`discards and freed clusters release no space: ${punchHole.reason}`];
}

/** Whether serving the requests may zero ranges or punch holes. */
function mayZero({ cell, source }: CellPlan): boolean {
  switch (FORMAT_FACTS[cell.format].zeroing) {
    case 'on-allocation':
      return true;
    case 'never':
      return false;
    case 'on-request':
      // A recording would have to be read to know.
      return source.kind === 'recording' || dropsData(source.workload, cell);
  }
}

function dropsData({ phases }: Workload, { discard }: Cell): boolean {
  return phasesOf(phases).some(({ mix }) => mix.writeZeroes > 0 || (mix.discard > 0 && discard !== 'ignore'));
}

function unsupportedLayout(
  cell: Cell,
  { virtualSize, clusterSize }: { readonly virtualSize: number; readonly clusterSize: number | undefined },
): string | undefined {
  const { format, refcounts, shape, backing } = cell;
  const broken = impossibleImage({
    format,
    clusterSize,
    refcounts: refcounts ?? undefined,
    shape,
    backingFile: backing === undefined ? undefined : { name: 'backing', format: backing },
  });
  if (broken !== undefined) return broken.message;
  if (clusterSize === undefined) return undefined;
  const disk = { virtualSize, clusterSize, shape };
  return FORMAT_FACTS[format].unmappable?.(disk) ?? unsupportedCaches(cell, disk);
}

function unsupportedByNoUnref(cell: Cell): string | undefined {
  if (cell.shape?.compat === '0.10') return 'discard-no-unref needs version 3 of qcow2 (compat 1.1)';
  return unsupportedNoUnref(profileOf(cell));
}

/** Why caches of such sizes are not possible. */
function unsupportedCaches({ format, caches }: Cell, disk: ClusteredDisk): string | undefined {
  return caches === undefined ? undefined : FORMAT_FACTS[format].unsupportedCaches?.(caches, disk);
}
