/**
 * The refcount blocks as a check meets them: each is a cluster of its own within the file.
 *
 * Invariant: without the scope `all` nothing is written; with it the file is made longer at most,
 * and never beyond what a refcount table can describe.
 */

import { Qcow2BenchError } from '../../../core/error.ts';
import { LIMITS } from '../../../core/limits.ts';
import type { CheckFindings } from '../../check-findings.ts';
import type { CheckOptions } from '../../check-report.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import { ENTRY_SIZE } from '../on-disk/layout.ts';
import type { ReferenceRanges } from './reference-ranges.ts';

/** Counts the blocks; one that cannot be where its entry says calls for a rebuild. */
export async function scanRefcountBlocks(
  core: ImageCore,
  ranges: ReferenceRanges,
  findings: CheckFindings,
  { repair }: CheckOptions,
): Promise<void> {
  const { refcountTable: table, geometry } = core;
  const { clusterSize } = geometry;
  const repairs = repair === 'all';
  for (let index = 0; index < table.entries; index++) {
    // Of a sparse table nearly all entries are empty.
    index = table.nextEntry(index);
    if (index === table.entries) break;
    const offset = table.blockOffset(index);
    const name = `refcount block ${String(index)}`;
    if (table.hasReservedBits(index)) {
      findings.corruption(() => `ERROR refcount table entry ${String(index)} has reserved bits set`);
      findings.needsRebuild = true;
    } else if (offset % clusterSize !== 0) {
      findings.corruption(() => `ERROR ${name} is not cluster aligned; refcount table entry corrupted`);
      findings.needsRebuild = true;
    } else if (offset / clusterSize >= ranges.counts.end) {
      findings.corruption(() => `${repairs ? 'Repairing' : 'ERROR'} ${name} is outside image`);
      if (repairs) await growOver(core, ranges, findings, offset);
    } else if (offset !== 0) {
      ranges.add(offset, clusterSize);
      const references = ranges.counts.get(offset / clusterSize);
      if (references !== 1) {
        findings.corruption(() => `ERROR ${name} refcount=${String(references)}`);
        findings.needsRebuild = true;
      }
    }
  }
}

/**
 * Makes the file long enough to hold a refcount block that would be past its end: it is then all
 * zeroes.
 */
async function growOver(
  { geometry, header }: ImageCore,
  ranges: ReferenceRanges,
  findings: CheckFindings,
  offset: number,
): Promise<void> {
  const { clusterSize, refcountBlockEntries } = geometry;
  const { device } = header;
  try {
    // A file that no refcount table can describe could not be repaired any more.
    if ((offset / clusterSize / refcountBlockEntries) * ENTRY_SIZE >= LIMITS.refcountTableBytes) {
      throw new Qcow2BenchError('qcow2-refcount-table-full', 'it would need a refcount table above 8 MiB');
    }
    await device.truncate(offset + clusterSize, 'refcount-block');
  } catch (error) {
    if (!(error instanceof Qcow2BenchError)) throw error;
    findings.needsRebuild = true;
    findings.say('check-error', () => `ERROR could not resize image: ${error.message}`);
    return;
  }
  ranges.growTo(device.size());
  findings.corruptions--;
  findings.corruptionsFixed++;
  ranges.add(offset, clusterSize);
}
