/**
 * Checking and repairing an image's refcounts and copied flags, as `qemu-img check` does: count
 * what is referenced, compare with what is stored, repair what may be repaired.
 *
 * Invariants:
 * - Without a repair scope nothing is written; a repair is good only if no corruption and no check
 *   error is left, and only then may the caller clear the dirty bit.
 * - Where a table that leads to clusters cannot be read, what seems leaked may be the guest's: a
 *   repair calls it free, as QEMU's does, but does not punch holes there, as QEMU's does: the data
 *   can be recovered if the table is.
 */

import { Qcow2BenchError, hex } from '../../../core/error.ts';
import type { HostCluster } from '../../../core/offsets.ts';
import type { CheckOptions, CheckReport, RepairScope } from '../../check-report.ts';
import { CheckFindings } from '../../check-findings.ts';
import { visitBitmaps } from '../bitmaps/bitmap-directory.ts';
import { l1FaultText } from '../snapshots/broken-snapshots.ts';
import type { CheckTarget } from './check-target.ts';
import { checkCopiedFlags } from './copied-flags.ts';
import { cutOffText, isCutOff, l1TableOf, refcountTableOf, snapshotTableOf } from '../on-disk/file-end.ts';
import { OFFSET_LIMIT } from '../on-disk/layout.ts';
import { rebuildRefcounts } from './rebuild.ts';
import type { ReferenceCounts } from './reference-count.ts';
import { scanReferences } from './reference-scan.ts';

/** Clusters compared between two words about the progress. */
const PROGRESS_CLUSTERS = 1_048_576;

/** Checks an image, and repairs it within `options.repair` if that is given. */
export async function checkImage(target: CheckTarget, options: CheckOptions = {}): Promise<CheckReport> {
  const { geometry, header } = target.core;
  const { repair } = options;
  const findings = new CheckFindings(options.onDetail);
  // Broken bitmaps refuse the image, as opening does in QEMU: before anything is repaired, and
  // before what they hold is freed.
  await visitBitmaps(header, () => undefined);
  const ofTable = await checkSnapshotTable(target, findings, options);
  if (repair === 'all') await restoreTables(target, findings, ofTable > 0);
  if (repair !== undefined) await header.dropStaleFeatures();
  await checkRefcounts(target, findings, options);
  await checkCopiedFlags(target.core, findings, options);
  if (ofTable > 0 && repair === 'all') await rewriteSnapshotTable(target, findings, ofTable);
  else findings.corruptions += ofTable;
  return findings.report(Math.ceil(header.values.virtualSize / geometry.clusterSize));
}

/**
 * Makes the file long enough for a table of the header that it ends within: what was lost there is
 * empty. One that begins past the end is left: the refcount table is rebuilt, the snapshot table
 * rewritten, and an L1 table may be anywhere, but for one of a cluster that was the last of the
 * file.
 */
async function restoreTables(
  { core, snapshots }: CheckTarget,
  findings: CheckFindings,
  isRewritten: boolean,
): Promise<void> {
  const { device, values } = core.header;
  const tables = [l1TableOf(values), refcountTableOf(values)];
  if (!isRewritten) tables.push(snapshotTableOf(values, snapshots.table));
  for (const table of tables) {
    const { name, offset, length, purpose } = table;
    const fileSize = device.size();
    if (offset === 0 || !isCutOff(table, fileSize)) continue;
    const wasLast = purpose === 'l1-table' && offset + length - fileSize < core.geometry.clusterSize;
    if (offset >= fileSize && !wasLast) continue;
    await device.truncate(offset + length, purpose);
    if (purpose === 'l1-table') findings.hasLostTable = true;
    findings.corruptionsFixed++;
    findings.say(
      'repair',
      () =>
        `Repairing the ${name} at ${hex(offset)}, which the end of the file (${hex(fileSize)}) cuts off: the lost part is now empty`,
    );
  }
}

/**
 * Counts what is referenced, compares it with what is stored, and repairs that within the scope of
 * the repair.
 */
async function checkRefcounts(
  target: CheckTarget,
  findings: CheckFindings,
  options: CheckOptions,
): Promise<void> {
  const { repair } = options;
  const before = findings.counts();
  let counts = await scanReferences(target, findings, options);
  let scanned = findings.counts();
  await compare(target, counts, findings, { ...options, repair: undefined });
  const mayRebuild = repair === 'all' && (findings.needsRebuild || target.core.header.isDirty);
  if (mayRebuild && (await restoreLength(target, findings))) {
    const { corruptions, checkErrors } = before;
    findings.restore({ ...scanned, corruptions, checkErrors });
    findings.resetMapping();
    counts = await scanReferences(target, findings, options);
    findings.corruptionsFixed += Math.max(0, scanned.corruptions - findings.corruptions);
    scanned = findings.counts();
    await compare(target, counts, findings, { ...options, repair: undefined });
  }
  if (repair !== undefined && findings.hasLostTable && findings.leaks > 0) {
    findings.say(
      'repair',
      () =>
        'Clusters referenced only by an unreadable table are unknown: they are counted as free, but their bytes stay in the file',
    );
  }
  if (findings.needsRebuild && repair === 'all') {
    await rebuild(target, counts, findings, options);
  } else if (findings.needsRebuild && repair === 'leaks') {
    findings.checkError(() => 'ERROR refcount structures must be rebuilt: use --repair all');
  } else if (repair !== undefined && findings.leaks + findings.corruptions > 0) {
    findings.restore(scanned);
    await compare(target, counts, findings, options);
  }
}

/**
 * Gives the file the length that its entries show it had, before refcount structures are built
 * again. They would otherwise come to be in clusters that entries lead to, and a guest would read
 * them as its data.
 *
 * @returns whether the file was lengthened
 */
async function restoreLength(target: CheckTarget, findings: CheckFindings): Promise<boolean> {
  const { device } = target.core.header;
  const { lostEnd } = findings;
  const size = device.size();
  if (lostEnd === undefined || lostEnd <= size) return false;
  await device.truncate(lostEnd, 'data');
  findings.say(
    'repair',
    () =>
      `Repairing the length of the file: it ends at ${hex(size)}, but entries point up to ${hex(lostEnd)}; the lost part reads as zeroes`,
  );
  if (findings.hasTablePastEnd) findings.hasLostTable = true;
  return true;
}

/**
 * Reads the snapshot table. Answers how many corruptions of its own it has, which rewriting it
 * repairs; until then they are reported, but not counted: they have no part in what is done about
 * the refcounts.
 */
async function checkSnapshotTable(
  { core, snapshots }: CheckTarget,
  findings: CheckFindings,
  { repair, keepsSnapshots = false }: CheckOptions,
): Promise<number> {
  const repairs = repair === 'all';
  // Opening a dirty image repairs it, but removes no snapshot: only a repair that was asked for
  // does.
  const purpose = keepsSnapshots ? 'use' : repairs ? 'repair' : 'check';
  const table = await snapshots.readForCheck(purpose);
  const { incomplete, cut, dropped, broken } = table;
  const { offset, length } = snapshotTableOf(core.header.values, table);
  const fileSize = core.header.device.size();
  const isCut = isCutOff({ offset, length }, fileSize);
  // Extra data that is too long is a length gone wrong: what follows may not be read where it
  // begins.
  findings.hasLostTable = isCut || cut.length + dropped + broken.length > 0;
  const tell = (text: () => string): void => {
    findings.say('corruption', text);
  };
  for (const index of cut) {
    tell(() => `Repairing snapshot table entry ${String(index)} has too much extra data: truncating it`);
  }
  if (dropped > 0) {
    tell(() => `Repairing ${String(dropped)} snapshots are beyond the end of the snapshot table`);
  }
  for (const index of incomplete) {
    tell(() => `${repairs ? 'Repairing' : 'ERROR'} snapshot table entry ${String(index)} is incomplete`);
  }
  for (const snapshot of broken) {
    const fault = snapshots.faultOf(snapshot);
    if (fault === undefined) continue;
    const { id, name } = snapshot;
    tell(() => `Repairing snapshot ${id} (${name}) ${l1FaultText(snapshot, fault)}: removing it`);
  }
  const found = incomplete.length + cut.length + dropped + broken.length;
  // One that the file ends within gets its length again, as other tables do.
  if (found > 0 || !isCut || (repairs && offset < fileSize)) return found;
  tell(
    () => `${repairs ? 'Repairing' : 'ERROR'} the snapshot table ${cutOffText({ offset, length }, fileSize)}`,
  );
  return 1;
}

/**
 * Puts a new table where the refcounts say that nothing is; as they were repaired before, that is
 * so, but for what was past the end of the file and holds nothing. Tables are not overwritten,
 * whatever the refcounts say.
 */
async function rewriteSnapshotTable(
  { snapshots }: CheckTarget,
  findings: CheckFindings,
  ofTable: number,
): Promise<void> {
  try {
    await snapshots.rewriteTable();
    findings.corruptionsFixed += ofTable;
  } catch (error) {
    if (!(error instanceof Qcow2BenchError)) throw error;
    findings.corruptions += ofTable;
    findings.checkError(() => `ERROR the snapshot table cannot be rewritten: ${error.message}`);
  }
}

/**
 * Replaces the refcount structures, then counts and compares again; what the old ones leaked is
 * freed.
 *
 * @param round a file that the new structures make longer has room for what lay past its end, which
 *   then counts: where QEMU would not have come so far, the refcounts are built once more with it
 */
async function rebuild(
  target: CheckTarget,
  counts: ReferenceCounts,
  findings: CheckFindings,
  options: CheckOptions,
  round: 'first' | 'second' = 'first',
): Promise<void> {
  findings.say('repair', () => 'Rebuilding refcount structure');
  // What was repaired or lengthened so far is durable before anything is built on it.
  await target.core.header.device.sync('repair');
  const hasPassedOver = await rebuildRefcounts(target.core, counts);
  target.core.refcounts.blockCache.forgetAll();
  target.core.refcounts.resetSearch();
  const before = findings.counts();
  // Refcounts that could not be read are gone with their blocks; what still cannot be checked is
  // found again.
  findings.restore({ ...before, corruptions: 0, leaks: 0, checkErrors: 0 });
  findings.resetMapping();
  const { onProgress, keepsSnapshots } = options;
  const quiet = { onProgress, keepsSnapshots };
  const recounted = await scanReferences(target, findings, quiet);
  // As QEMU counts it: what the comparison below still finds was not there before.
  findings.corruptionsFixed += Math.max(0, before.corruptions - findings.corruptions);
  // What is in the old structures is free now.
  const untold = new CheckFindings(undefined);
  untold.hasLostTable = findings.hasLostTable;
  await compare(target, recounted, untold, { ...quiet, repair: 'leaks' });
  await compare(target, recounted, findings, quiet);
  findings.leaksFixed += Math.max(0, before.leaks - findings.leaks);
  if (hasPassedOver && findings.needsRebuild && round === 'first') {
    await rebuild(target, recounted, findings, options, 'second');
  }
}

/** Compares stored refcounts with counted references; repairs what `options.repair` allows. */
async function compare(
  target: CheckTarget,
  counts: ReferenceCounts,
  findings: CheckFindings,
  options: CheckOptions,
): Promise<void> {
  const { geometry } = target.core;
  const { refcountBlockEntries } = geometry;
  const comparison = new Comparison(target, counts, findings, options.repair);
  const { end } = counts;
  let nextWord = PROGRESS_CLUSTERS;
  for (let cluster = 0; cluster < end;) {
    const index = Math.floor(cluster / refcountBlockEntries);
    const blockEnd = Math.min(end, (index + 1) * refcountBlockEntries);
    if (target.core.refcountTable.blockOffset(index) === 0) {
      // Past the table nothing is stored at all; within it the next block may begin at the end of
      // this one.
      const counted = counts.nextCounted(
        cluster,
        index + 1 < target.core.refcountTable.entries ? blockEnd : end,
      );
      if (counted >= blockEnd) {
        cluster = counted;
        continue;
      }
      comparison.withoutBlock(counted, blockEnd);
    } else {
      await comparison.withBlock(index, cluster, blockEnd);
    }
    cluster = blockEnd;
    if (cluster >= nextWord) {
      const turn = options.onProgress?.('refcounts', cluster / end);
      if (turn !== undefined) await turn;
      nextWord = cluster + PROGRESS_CLUSTERS;
    }
  }
  findings.imageEndOffset = (comparison.highest + 1) * geometry.clusterSize;
}

class Comparison {
  /** The last cluster that has a refcount or a reference. */
  highest = 0;
  readonly #target: CheckTarget;
  readonly #counts: ReferenceCounts;
  readonly #findings: CheckFindings;
  readonly #repair: RepairScope | undefined;

  constructor(
    target: CheckTarget,
    counts: ReferenceCounts,
    findings: CheckFindings,
    repair: RepairScope | undefined,
  ) {
    this.#target = target;
    this.#counts = counts;
    this.#findings = findings;
    this.#repair = repair;
  }

  /** Clusters of a range for which no refcounts are stored: those are 0. */
  withoutBlock(from: number, end: number): void {
    for (let cluster = from; cluster < end; cluster++) {
      const counted = this.#counts.get(cluster);
      if (counted === 0) continue;
      this.highest = cluster;
      this.#differs(cluster, 0, counted);
    }
  }

  /** Clusters of a range whose refcounts are in the block of that index. */
  async withBlock(index: number, from: number, end: number): Promise<void> {
    const { refcountTable: table, geometry, refcounts } = this.#target.core;
    const offset = table.blockOffset(index);
    // No system reads from 2^63 on; what is past the end of the file below that is zeroes.
    if (offset % geometry.clusterSize !== 0 || offset >= OFFSET_LIMIT) {
      for (let cluster = from; cluster < end; cluster++) {
        this.#findings.checkError(
          () => `ERROR cluster ${String(cluster)}: its refcount block has an unreadable offset`,
        );
      }
      return;
    }
    if (!Number.isSafeInteger(offset)) {
      this.withoutBlock(from, end);
      return;
    }
    const { blockCache, codec } = refcounts;
    const start = index * geometry.refcountBlockEntries;
    for (let cluster = from; cluster < end; cluster++) {
      const acquired = blockCache.acquire(offset);
      const slot = typeof acquired === 'number' ? acquired : await acquired;
      const block = blockCache.view(slot);
      let stored = 0;
      let counted = 0;
      for (; cluster < end; cluster++) {
        stored = codec.get(block, cluster - start);
        counted = this.#counts.get(cluster);
        if (stored > 0 || counted > 0) this.highest = cluster;
        if (stored !== counted) {
          if (this.#repairs(stored, counted)) break;
          this.#differs(cluster, stored, counted);
        }
      }
      blockCache.release(slot);
      if (cluster < end) await this.#correct(cluster, stored, counted);
    }
  }

  #repairs(stored: number, counted: number): boolean {
    if (stored === 0 || this.#repair === undefined) return false;
    return stored > counted || this.#repair === 'all';
  }

  async #correct(cluster: HostCluster, stored: number, counted: number): Promise<void> {
    const findings = this.#findings;
    findings.say('repair', () => `Repairing ${difference(cluster, stored, counted)}`);
    try {
      await this.#target.core.refcounts.correct(cluster, counted, {
        change: stored > counted ? 'lower' : 'raise',
        freed: findings.hasLostTable ? 'keep' : 'discard',
      });
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
      findings.say('check-error', () => `ERROR could not be repaired: ${error.message}`);
      if (stored > counted) findings.leaks++;
      else findings.corruptions++;
      return;
    }
    if (stored > counted) findings.leaksFixed++;
    else findings.corruptionsFixed++;
  }

  #differs(cluster: HostCluster, stored: number, counted: number): void {
    const findings = this.#findings;
    if (stored === 0) findings.needsRebuild = true;
    if (stored > counted) findings.leak(() => `Leaked ${difference(cluster, stored, counted)}`);
    else findings.corruption(() => `ERROR ${difference(cluster, stored, counted)}`);
  }
}

function difference(cluster: HostCluster, stored: number, counted: number): string {
  return `cluster ${String(cluster)} refcount=${String(stored)} reference=${String(counted)}`;
}
