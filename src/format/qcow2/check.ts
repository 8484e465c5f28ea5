/**
 * Checking and repairing an image's refcounts and copied flags, as `qemu-img check` does: count what is
 * referenced, compare with what is stored, mend what may be mended.
 *
 * Invariants: without a repair scope nothing is written; a repair is good only if no corruption and no check
 * error is left, and only then may the caller clear the dirty bit.
 */

import { hex } from '../../core/error.ts';
import { viewOf } from '../../core/bytes.ts';
import { allocatePages } from '../../core/page-memory.ts';
import type { CheckReport, RepairScope } from '../check-report.ts';
import { CheckFindings } from './check-findings.ts';
import type { Geometry } from './geometry.ts';
import type { HeaderStore } from './header-store.ts';
import { clusterTypeAt, hostOffsetAt, isCopiedAt, setCopiedFlagAt } from './l2-entry.ts';
import type { L2Tables } from './l2-tables.ts';
import { rebuildRefcounts } from './rebuild.ts';
import { countReferences, type ReferenceCounts } from './reference-count.ts';
import type { RefcountTable } from './refcount-table.ts';
import type { Refcounts } from './refcounts.ts';

export interface CheckTarget {
  readonly header: HeaderStore;
  readonly geometry: Geometry;
  readonly table: RefcountTable;
  readonly refcounts: Refcounts;
  readonly tables: L2Tables;
}

/** Checks an image, and repairs it within `repair` if that is given. */
export async function checkImage(target: CheckTarget, repair?: RepairScope): Promise<CheckReport> {
  const { geometry, header } = target;
  let findings = new CheckFindings();
  const counts = await countReferences({ ...target, findings });
  const scanned = { corruptions: findings.corruptions, leaks: findings.leaks };
  await compare(target, counts, findings, undefined);

  if (findings.needsRebuild && repair === 'all') {
    findings = await rebuild(target, counts, findings);
  } else if (repair !== undefined && findings.needsRebuild) {
    findings.checkErrors++;
    findings.repaired('ERROR need to rebuild refcount structures');
  } else if (repair !== undefined && findings.leaks + findings.corruptions > 0) {
    findings.leaks = scanned.leaks;
    findings.corruptions = scanned.corruptions;
    await compare(target, counts, findings, repair);
  }
  await checkCopiedFlags(target, findings, repair === 'all');
  return findings.report(Math.ceil(header.values.virtualSize / geometry.clusterSize));
}

/** Replaces the refcount structures, then counts and compares again; what the old ones leaked is freed. */
async function rebuild(
  target: CheckTarget,
  counts: ReferenceCounts,
  before: CheckFindings,
): Promise<CheckFindings> {
  await rebuildRefcounts(target, counts);
  target.refcounts.blockCache.forgetAll();
  target.refcounts.resetSearch();
  const after = new CheckFindings();
  const recounted = await countReferences({ ...target, findings: after });
  await compare(target, recounted, new CheckFindings(), 'leaks');
  await compare(target, recounted, after, undefined);
  after.corruptionsFixed = Math.max(0, before.corruptions - after.corruptions);
  after.leaksFixed = Math.max(0, before.leaks - after.leaks);
  after.repaired('Rebuilding refcount structure');
  return after;
}

/** Compares stored refcounts with counted references; mends what `repair` allows. */
async function compare(
  target: CheckTarget,
  counts: ReferenceCounts,
  findings: CheckFindings,
  repair: RepairScope | undefined,
): Promise<void> {
  const { geometry, refcounts, header } = target;
  const { clusterSize } = geometry;
  const end = Math.max(Math.ceil(header.device.size() / clusterSize), counts.end);
  let highest = 0;
  for (let cluster = 0; cluster < end; cluster++) {
    const answer = refcounts.get(cluster);
    const stored = typeof answer === 'number' ? answer : await answer;
    const counted = counts.get(cluster);
    if (stored > 0 || counted > 0) highest = cluster;
    if (stored === counted) continue;
    if (stored === 0) findings.needsRebuild = true;
    const isLeak = stored > counted;
    const mends = stored !== 0 && (isLeak ? repair !== undefined : repair === 'all');
    const what = `cluster ${String(cluster)} refcount=${String(stored)} reference=${String(counted)}`;
    if (mends) {
      findings.repaired(`Repairing ${what}`);
      await refcounts.update(cluster * clusterSize, 1, counted - stored, 'discard');
      if (isLeak) findings.leaksFixed++;
      else findings.corruptionsFixed++;
    } else if (isLeak) {
      findings.leak(`Leaked ${what}`);
    } else {
      findings.corruption(`ERROR ${what}`);
    }
  }
  findings.imageEndOffset = (highest + 1) * clusterSize;
}

/** A copied flag must be set exactly where the refcount is one; a wrong one would let a shared cluster be overwritten. */
async function checkCopiedFlags(
  target: CheckTarget,
  findings: CheckFindings,
  repair: boolean,
): Promise<void> {
  const { tables, refcounts, geometry, header } = target;
  const { clusterSize } = geometry;
  const bytes = allocatePages(clusterSize);
  const view = viewOf(bytes);
  const isSingle = async (offset: number): Promise<boolean> =>
    (await refcounts.get(offset / clusterSize)) === 1;
  const wrong = (what: string): void => {
    if (!repair) {
      findings.corruption(`ERROR OFLAG_COPIED ${what}`);
      return;
    }
    findings.corruptionsFixed++;
    findings.repaired(`Repairing OFLAG_COPIED ${what}`);
  };
  for (let l1Index = 0; l1Index < tables.l1Entries; l1Index++) {
    const offset = tables.tableOffset(l1Index);
    if (offset === 0 || offset % clusterSize !== 0) continue;
    const single = await isSingle(offset);
    if (single !== tables.isTableCopied(l1Index)) {
      wrong(`L2 cluster: l1_index=${String(l1Index)} l2_offset=${hex(offset)}`);
      if (repair) await tables.repairCopiedFlag(l1Index, single);
    }
    const pending = header.device.read(offset, bytes, 'l2-table');
    if (pending !== undefined) await pending;
    let changed = false;
    for (let index = 0; index < geometry.l2Entries; index++) {
      const type = clusterTypeAt(view, index);
      if (type !== 'normal' && type !== 'zero-allocated') continue;
      const dataOffset = hostOffsetAt(view, index);
      if (dataOffset % clusterSize !== 0) continue;
      const answer = refcounts.get(dataOffset / clusterSize);
      const singleData = (typeof answer === 'number' ? answer : await answer) === 1;
      if (singleData === isCopiedAt(view, index)) continue;
      wrong(`data cluster: l2_index=${String(index)} offset=${hex(dataOffset)}`);
      setCopiedFlagAt(view, index, singleData);
      changed = true;
    }
    if (changed && repair) {
      tables.l2Cache.forgetTable(offset, clusterSize);
      await header.device.write(offset, bytes, 'l2-table');
    }
  }
}
