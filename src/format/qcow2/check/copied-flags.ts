/**
 * The copied flag of an L1 or L2 entry says that its target has a refcount of exactly one. A flag
 * set in error would let a shared cluster be overwritten.
 *
 * Invariant: flags are held against the refcounts as they are stored, after those were repaired.
 */

import { Qcow2BenchError, hex } from '../../../core/error.ts';
import { emptyWordsEnd, viewOf } from '../../../core/bytes.ts';
import type { HostCluster } from '../../../core/offsets.ts';
import { allocatePagesToFill } from '../../../core/page-memory.ts';
import type { CheckOptions } from '../../check-report.ts';
import type { CheckFindings } from '../../check-findings.ts';
import type { ImageCore } from '../metadata/image-core.ts';
import { ENTRY_SIZE, HIGH, INCOMPATIBLE, LOW, OFFSET_LIMIT, TWO_32 } from '../on-disk/layout.ts';

/** Checks the flags of the active mapping, and repairs them where that is safe. */
export async function checkCopiedFlags(
  core: ImageCore,
  findings: CheckFindings,
  options: CheckOptions,
): Promise<void> {
  const check = new CopiedFlagCheck(core, findings, mayRepair(findings, options));
  const { l1Entries } = core.tables;
  for (let l1Index = 0; l1Index < l1Entries; l1Index++) {
    l1Index = core.tables.nextTable(l1Index);
    if (l1Index === l1Entries) break;
    if (!(await check.table(l1Index))) return;
    const turn = options.onProgress?.('copied flags', (l1Index + 1) / l1Entries);
    if (turn !== undefined) await turn;
  }
}

/**
 * With the scope `leaks` flags are corrected only if the refcounts they follow are known to be
 * right.
 */
function mayRepair(findings: CheckFindings, { repair }: CheckOptions): boolean {
  if (repair !== 'leaks') return repair === 'all';
  return findings.checkErrors + findings.corruptions + findings.leaks === 0;
}

/** The refcount of a cluster whose refcount block cannot be read. */
const UNKNOWN = -1;

class CopiedFlagCheck {
  readonly #core: ImageCore;
  readonly #findings: CheckFindings;
  readonly #repairs: boolean;
  readonly #hasDataFile: boolean;
  readonly #entrySize: number;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  /** The refcount block that was looked at last: its index, and the slot that is held. */
  #blockIndex = -1;
  #slot = -1;

  constructor(core: ImageCore, findings: CheckFindings, repairs: boolean) {
    const { clusterSize, l2Entries } = core.geometry;
    this.#core = core;
    this.#findings = findings;
    this.#repairs = repairs;
    this.#hasDataFile = (core.header.values.incompatible & INCOMPATIBLE.externalDataFile) !== 0;
    this.#entrySize = clusterSize / l2Entries;
    this.#bytes = allocatePagesToFill(clusterSize);
    this.#view = viewOf(this.#bytes);
  }

  /**
   * Checks an L1 entry and the table behind it; false if the rest of the image cannot be checked.
   */
  async table(l1Index: number): Promise<boolean> {
    const { tables, header, geometry } = this.#core;
    const { clusterSize } = geometry;
    const offset = tables.tableOffset(l1Index);
    const refcount = await this.#refcountOf(Math.floor(offset / clusterSize));
    if (refcount === UNKNOWN) return true;
    if ((refcount === 1) !== tables.isTableCopied(l1Index)) {
      this.#wrong(
        () => `L2 cluster: l1_index=${String(l1Index)} l2_offset=${hex(offset)} refcount=${String(refcount)}`,
      );
      if (this.#repairs) {
        this.#releaseBlock();
        if (!this.#mayWrite(header.values.l1Offset + l1Index * ENTRY_SIZE, ENTRY_SIZE, 'l1-table')) {
          return false;
        }
        await tables.repairCopiedFlag(l1Index, refcount === 1);
        this.#countFixed(1);
      }
    }
    if (offset >= header.device.size()) return true;
    const pending = header.device.read(offset, this.#bytes, 'l2-table');
    if (pending !== undefined) await pending;
    const changed = await this.#entries();
    this.#releaseBlock();
    return changed === 0 || this.#writeTable(offset, changed);
  }

  /** Answers how many entries of the table were changed in memory. */
  async #entries(): Promise<number> {
    const { l2Entries, clusterSize } = this.#core.geometry;
    const view = this.#view;
    let changed = 0;
    for (let index = 0; index < l2Entries; index++) {
      index = this.#skipGoodEntries(index);
      if (index === l2Entries) break;
      const at = index * this.#entrySize;
      const high = view.getUint32(at);
      const offset = (high & HIGH.offset) * TWO_32 + ((view.getUint32(at + 4) & LOW.offset) >>> 0);
      const isCompressed = (high & HIGH.compressed) !== 0;
      if (isCompressed || offset === 0) continue;
      const refcount = this.#hasDataFile ? 1 : await this.#refcountOf(Math.floor(offset / clusterSize));
      if (refcount === UNKNOWN || (refcount === 1) === high >= HIGH.copied) continue;
      this.#wrong(
        () => `data cluster: l2_index=${String(index)} offset=${hex(offset)} refcount=${String(refcount)}`,
      );
      if (!this.#repairs) continue;
      view.setUint32(at, refcount === 1 ? (high | HIGH.copied) >>> 0 : high & ~HIGH.copied);
      changed++;
    }
    return changed;
  }

  /**
   * The usual entries, whose refcounts are in the block that is held: nothing is made or awaited on
   * the way.
   *
   * @returns the index of the first entry from `first` on that has to be looked at; the table's end
   *   if none has.
   */
  #skipGoodEntries(first: number): number {
    const { refcounts, geometry } = this.#core;
    const { clusterBits, l2Entries, refcountBlockEntries } = geometry;
    const { codec } = refcounts;
    const view = this.#view;
    const entrySize = this.#entrySize;
    const clustersOfHigh = TWO_32 / geometry.clusterSize;
    const blockFirst = this.#blockIndex * refcountBlockEntries;
    const block = this.#slot < 0 ? undefined : refcounts.blockCache.view(this.#slot);
    for (let index = first; index < l2Entries; index++) {
      const at = index * entrySize;
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      if ((high & HIGH.offset) === 0 && (low & LOW.offset) === 0) {
        if (entrySize === ENTRY_SIZE && high === 0 && low === 0) {
          index = emptyWordsEnd(view, index + 1, l2Entries) - 1;
        }
        continue;
      }
      if (block === undefined || this.#hasDataFile || (high & HIGH.compressed) !== 0) return index;
      const entry = (high & HIGH.offset) * clustersOfHigh + (low >>> clusterBits) - blockFirst;
      if (entry < 0 || entry >= refcountBlockEntries) return index;
      if ((codec.get(block, entry) === 1) !== high >= HIGH.copied) return index;
    }
    return l2Entries;
  }

  async #writeTable(offset: number, changed: number): Promise<boolean> {
    const { tables, header, geometry } = this.#core;
    if (!this.#mayWrite(offset, geometry.clusterSize, 'l2-table')) return false;
    tables.l2Cache.forgetTable(offset, geometry.clusterSize);
    await header.device.write(offset, this.#bytes, 'l2-table');
    this.#countFixed(changed);
    return true;
  }

  /** False, and a check error, if other metadata is there. */
  #mayWrite(offset: number, length: number, own: 'l1-table' | 'l2-table'): boolean {
    const kind = this.#core.metadata.overlap(offset, length, own);
    if (kind === undefined) return true;
    const name = own === 'l1-table' ? 'an entry of the L1 table' : 'the L2 table';
    this.#findings.checkError(
      () => `ERROR could not write ${name} at ${hex(offset)}: it would overwrite the ${kind}`,
    );
    return false;
  }

  /** The refcount if it is in the block that is held. */
  #heldRefcount(cluster: HostCluster): number | undefined {
    const { refcounts, geometry } = this.#core;
    const { refcountBlockEntries } = geometry;
    const first = this.#blockIndex * refcountBlockEntries;
    if (this.#slot < 0 || cluster < first || cluster >= first + refcountBlockEntries) return undefined;
    return refcounts.codec.get(refcounts.blockCache.view(this.#slot), cluster - first);
  }

  async #refcountOf(cluster: HostCluster): Promise<number> {
    const { refcountTable: table, geometry, refcounts } = this.#core;
    const index = Math.floor(cluster / geometry.refcountBlockEntries);
    const offset = table.blockOffset(index);
    if (offset === 0) return 0;
    if (offset % geometry.clusterSize !== 0 || offset >= OFFSET_LIMIT) return UNKNOWN;
    if (!Number.isSafeInteger(offset)) return 0;
    this.#releaseBlock();
    try {
      this.#slot = await refcounts.blockCache.acquire(offset);
    } catch (error) {
      if (error instanceof Qcow2BenchError) return UNKNOWN;
      throw error;
    }
    this.#blockIndex = index;
    return this.#heldRefcount(cluster) ?? UNKNOWN;
  }

  #releaseBlock(): void {
    if (this.#slot >= 0) this.#core.refcounts.blockCache.release(this.#slot);
    this.#slot = -1;
  }

  #wrong(what: () => string): void {
    const verb = this.#repairs ? 'Repairing' : 'ERROR';
    this.#findings.corruption(() => `${verb} OFLAG_COPIED ${what()}`);
  }

  #countFixed(count: number): void {
    this.#findings.corruptions -= count;
    this.#findings.corruptionsFixed += count;
  }
}
