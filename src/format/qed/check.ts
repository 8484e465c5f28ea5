/**
 * Checking a QED image, as `qemu-img check` does: every table entry must lead to clusters of its
 * own, and every cluster of the file should be led to.
 *
 * Invariants:
 * - Without a repair nothing is written. A repair clears entries that lead nowhere and nothing
 *   else: of two entries that claim one cluster no scan can determine the owner, and QED cannot
 *   give leaked clusters back.
 * - The need-check bit is cleared only by a repair after which no corruption is left, once all is
 *   durable.
 */

import { emptyWordsEnd, readU64le, writeU64le } from '../../core/bytes.ts';
import { assertInvariant, hex } from '../../core/error.ts';
import type { HostOffset } from '../../core/offsets.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import { CheckFindings } from '../check-findings.ts';
import type { CheckOptions, CheckReport } from '../check-report.ts';
import { ClaimedClusters } from './claimed-clusters.ts';
import { ENTRY_SIZE, type QedGeometry } from './geometry.ts';
import { QedHeaderFile } from './header-file.ts';
import { HEADER_SIZE, parseQedHeader, type QedHeader } from './header.ts';
import { HostSpace } from './host-space.ts';
import { ENTRY_UNALLOCATED, ENTRY_ZERO, type L2Table, QedTables } from './tables.ts';

/**
 * Checks the image in `device`, which stays open; the backing file is not looked at.
 *
 * @param options the scope `all` repairs what can be repaired; `leaks` repairs nothing, as QED
 *   cannot free clusters.
 * @throws Qcow2BenchError with a code of `parseQedHeader`, or of the device.
 */
export async function checkQed(device: BlockDevice, options: CheckOptions = {}): Promise<CheckReport> {
  const { repair } = options;
  const fields = new Uint8Array(HEADER_SIZE);
  await device.read(0, fields, 'header');
  const header = parseQedHeader(fields, { path: device.path, size: device.size() });
  if (repair !== undefined && header.hasAutoclear) {
    await new QedHeaderFile(device, fields, header.needCheck).rewriteFields(header.needCheck);
    await device.sync('repair');
  }
  const check = new QedCheck(device, header, options);
  await check.scan();
  if (repair === 'all' && check.corruptions === 0 && header.needCheck) {
    await device.sync('repair');
    await new QedHeaderFile(device, fields, true).rewriteFields(false);
  }
  if (repair === 'all') await device.sync('repair');
  return check.report();
}

class QedCheck {
  readonly #header: QedHeader;
  readonly #geometry: QedGeometry;
  readonly #space: HostSpace;
  readonly #tables: QedTables;
  readonly #repairs: boolean;
  readonly #claimed = new ClaimedClusters();
  readonly #findings: CheckFindings;
  readonly #options: CheckOptions;
  /**
   * Where the next data cluster would be if the image were not fragmented; 0 before a table's
   * first.
   */
  #contiguousOffset = 0;

  constructor(device: BlockDevice, header: QedHeader, options: CheckOptions) {
    const { geometry, l1Offset } = header;
    this.#header = header;
    this.#geometry = geometry;
    this.#space = new HostSpace(geometry, device.size());
    this.#tables = new QedTables({ device, geometry, space: this.#space, l1Offset });
    this.#repairs = options.repair === 'all';
    this.#options = options;
    this.#findings = new CheckFindings(options.onDetail);
  }

  get corruptions(): number {
    return this.#findings.corruptions;
  }

  async scan(): Promise<void> {
    const { entriesPerTable, tableClusters, headerSize } = this.#geometry;
    await this.#tables.loadL1();
    this.#claim(0, headerSize / this.#geometry.clusterSize, () => 'the header');
    this.#claim(this.#header.l1Offset, tableClusters, () => 'the first-level table');
    let isL1Changed = false;
    for (let l1Index = 0; l1Index < entriesPerTable; l1Index++) {
      l1Index = this.#tables.nextL1Entry(l1Index);
      if (l1Index === entriesPerTable) break;
      const hostOffset = this.#tables.l1Entry(l1Index);
      const name = (): string => `first-level entry ${String(l1Index)}`;
      if (hostOffset === undefined || !this.#space.holdsTable(hostOffset)) {
        this.#leadsNowhere(name, hostOffset);
        this.#tables.setL1Entry(l1Index, ENTRY_UNALLOCATED);
        isL1Changed = true;
        continue;
      }
      if (!this.#claim(hostOffset, tableClusters, name)) continue;
      await this.#scanTable(l1Index);
      const turn = this.#options.onProgress?.('tables', (l1Index + 1) / entriesPerTable);
      if (turn !== undefined) await turn;
    }
    if (isL1Changed && this.#repairs) await this.#tables.writeL1();
  }

  report(): CheckReport {
    const { clusterSize } = this.#geometry;
    this.#findings.leaks = this.#space.end / clusterSize - this.#claimed.count;
    return this.#findings.report(Math.ceil(this.#header.virtualSize / clusterSize));
  }

  async #scanTable(l1Index: number): Promise<void> {
    await this.#tables.load(l1Index);
    const table = this.#tables.cached(l1Index);
    assertInvariant(table !== undefined, 'a table just read is in the cache');
    this.#contiguousOffset = 0;
    let isChanged = false;
    const { entriesPerTable } = this.#geometry;
    for (let index = 0; index < entriesPerTable; index++) {
      index = emptyWordsEnd(table.view, index, entriesPerTable);
      if (index < entriesPerTable) isChanged = this.#checkEntry(table, index) || isChanged;
    }
    if (isChanged && this.#repairs) await this.#tables.writeTable(table);
  }

  /** Whether the entry was cleared. */
  #checkEntry(table: L2Table, index: number): boolean {
    const entry = readU64le(table.view, index * ENTRY_SIZE);
    if (entry === ENTRY_UNALLOCATED || entry === ENTRY_ZERO) return false;
    // As QEMU counts: an entry that leads nowhere has its place in the row too.
    const place = entry ?? NaN;
    const isFragmented = this.#contiguousOffset !== 0 && place !== this.#contiguousOffset;
    this.#findings.countAllocated(1, isFragmented ? 1 : 0);
    this.#contiguousOffset = place + this.#geometry.clusterSize;
    const name = (): string => `entry ${String(index)} of the table at ${hex(table.hostOffset)}`;
    if (entry === undefined || !this.#space.holdsCluster(entry)) {
      this.#leadsNowhere(name, entry);
      writeU64le(table.view, index * ENTRY_SIZE, ENTRY_UNALLOCATED);
      return true;
    }
    this.#claim(entry, 1, name);
    return false;
  }

  /**
   * Takes clusters for `name`; false if one of them is taken already. Each that is counts as a
   * corruption.
   */
  #claim(hostOffset: HostOffset, clusters: number, name: () => string): boolean {
    const first = hostOffset / this.#geometry.clusterSize;
    let isFree = true;
    for (let cluster = first; cluster < first + clusters; cluster++) {
      if (this.#claimed.claim(cluster)) continue;
      isFree = false;
      const at = cluster * this.#geometry.clusterSize;
      this.#findings.corruption(
        () => `ERROR ${name()} claims the cluster at ${hex(at)}, which is already in use`,
      );
    }
    return isFree;
  }

  #leadsNowhere(name: () => string, hostOffset: HostOffset | undefined): void {
    const where = hostOffset === undefined ? '2^53 or more' : hex(hostOffset);
    const what = (): string => `${name()}: ${where} is not a cluster of the file`;
    if (this.#repairs) {
      this.#findings.corruptionsFixed++;
      this.#findings.say('repair', () => `Repairing ${what()}`);
    } else {
      this.#findings.corruption(() => `ERROR ${what()}`);
    }
  }
}
