/**
 * Checking a QED image, as `qemu-img check` does: every table entry must lead to clusters of its own, and every
 * cluster of the file should be led to.
 *
 * Invariants:
 * - Without a repair nothing is written. A repair clears entries that lead nowhere and nothing else: of two
 *   entries that claim one cluster no scan can tell whose it is, and QED cannot give leaked clusters back.
 * - The need-check bit is cleared only by a repair after which no corruption is left, once all is durable.
 */

import { readU64le, writeU64le } from '../../core/bytes.ts';
import { assertInvariant, hex } from '../../core/error.ts';
import type { BlockDevice } from '../../device/block-device.ts';
import type { CheckReport, RepairScope } from '../check-report.ts';
import { ENTRY_SIZE, type QedGeometry } from './geometry.ts';
import { QedHeaderFile } from './header-file.ts';
import { HEADER_SIZE, parseQedHeader, type QedHeader } from './header.ts';
import { HostSpace } from './host-space.ts';
import { ENTRY_UNALLOCATED, ENTRY_ZERO, type L2Table, QedTables } from './tables.ts';

const MESSAGES_MAX = 20;

/**
 * Checks the image in `device`, which stays open; the backing file is not looked at.
 *
 * @param repair `all` mends what can be mended; `leaks` mends nothing, as QED cannot free clusters.
 * @throws Qcow2BenchError with a code of `parseQedHeader`, or of the device.
 */
export async function checkQed(device: BlockDevice, repair?: RepairScope): Promise<CheckReport> {
  const fields = new Uint8Array(HEADER_SIZE);
  await device.read(0, fields, 'header');
  const header = parseQedHeader(fields, { path: device.path, size: device.size() });
  const check = new QedCheck(device, header, repair === 'all');
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
  readonly #mends: boolean;
  readonly #imageEndOffset: number;
  readonly #claimed = new Set<number>();
  readonly #messages: string[] = [];
  #messagesDropped = 0;
  #corruptions = 0;
  #corruptionsFixed = 0;
  #allocatedClusters = 0;
  #fragmentedClusters = 0;
  /** Where the next data cluster would lie if the image were not fragmented; 0 before the first. */
  #contiguousOffset = 0;

  constructor(device: BlockDevice, header: QedHeader, mends: boolean) {
    const { geometry, l1Offset } = header;
    this.#header = header;
    this.#geometry = geometry;
    this.#space = new HostSpace(geometry, device.size());
    this.#tables = new QedTables({ device, geometry, space: this.#space, l1Offset });
    this.#mends = mends;
    this.#imageEndOffset = device.size();
  }

  get corruptions(): number {
    return this.#corruptions;
  }

  async scan(): Promise<void> {
    const { entriesPerTable, tableClusters, headerSize } = this.#geometry;
    await this.#tables.loadL1();
    this.#claim(0, headerSize / this.#geometry.clusterSize, 'the header');
    this.#claim(this.#header.l1Offset, tableClusters, 'the first-level table');
    let isL1Changed = false;
    for (let l1Index = 0; l1Index < entriesPerTable; l1Index++) {
      const hostOffset = this.#tables.l1Entry(l1Index);
      if (hostOffset === ENTRY_UNALLOCATED) continue;
      const name = `first-level entry ${String(l1Index)}`;
      if (hostOffset === undefined || !this.#space.holdsTable(hostOffset)) {
        this.#leadsNowhere(name, hostOffset);
        this.#tables.setL1Entry(l1Index, ENTRY_UNALLOCATED);
        isL1Changed = true;
        continue;
      }
      if (!this.#claim(hostOffset, tableClusters, name)) continue;
      await this.#scanTable(l1Index);
    }
    if (isL1Changed && this.#mends) await this.#tables.writeL1();
  }

  report(): CheckReport {
    const { clusterSize } = this.#geometry;
    return {
      corruptions: this.#corruptions,
      leaks: this.#space.end / clusterSize - this.#claimed.size,
      checkErrors: 0,
      corruptionsFixed: this.#corruptionsFixed,
      leaksFixed: 0,
      imageEndOffset: this.#imageEndOffset,
      totalClusters: Math.ceil(this.#header.virtualSize / clusterSize),
      allocatedClusters: this.#allocatedClusters,
      fragmentedClusters: this.#fragmentedClusters,
      compressedClusters: 0,
      messages: this.#messages,
      messagesDropped: this.#messagesDropped,
    };
  }

  async #scanTable(l1Index: number): Promise<void> {
    await this.#tables.load(l1Index);
    const table = this.#tables.cached(l1Index);
    assertInvariant(table !== undefined, 'a table just read is in the cache');
    let isChanged = false;
    for (let index = 0; index < this.#geometry.entriesPerTable; index++) {
      isChanged = this.#checkEntry(table, index) || isChanged;
    }
    if (isChanged && this.#mends) await this.#tables.writeTable(table);
  }

  /** Whether the entry was cleared. */
  #checkEntry(table: L2Table, index: number): boolean {
    const entry = readU64le(table.view, index * ENTRY_SIZE);
    if (entry === ENTRY_UNALLOCATED || entry === ENTRY_ZERO) return false;
    const name = `entry ${String(index)} of the table at ${hex(table.hostOffset)}`;
    this.#allocatedClusters++;
    if (entry === undefined || !this.#space.holdsCluster(entry)) {
      this.#leadsNowhere(name, entry);
      writeU64le(table.view, index * ENTRY_SIZE, ENTRY_UNALLOCATED);
      return true;
    }
    if (this.#contiguousOffset !== 0 && entry !== this.#contiguousOffset) this.#fragmentedClusters++;
    this.#contiguousOffset = entry + this.#geometry.clusterSize;
    this.#claim(entry, 1, name);
    return false;
  }

  /** Takes clusters for `name`; false, and a corruption, if one of them is taken already. */
  #claim(hostOffset: number, clusters: number, name: string): boolean {
    const first = hostOffset / this.#geometry.clusterSize;
    let isFree = true;
    for (let cluster = first; cluster < first + clusters; cluster++) {
      if (this.#claimed.has(cluster)) isFree = false;
      else this.#claimed.add(cluster);
    }
    if (!isFree) {
      this.#corruptions++;
      this.#say(`ERROR ${name} claims clusters at ${hex(hostOffset)} that are in use already`);
    }
    return isFree;
  }

  #leadsNowhere(name: string, hostOffset: number | undefined): void {
    if (this.#mends) this.#corruptionsFixed++;
    else this.#corruptions++;
    const where = hostOffset === undefined ? '2^53 or more' : hex(hostOffset);
    this.#say(`${this.#mends ? 'Repairing' : 'ERROR'} ${name}: ${where} is no cluster of the file`);
  }

  #say(message: string): void {
    if (this.#messages.length < MESSAGES_MAX) this.#messages.push(message);
    else this.#messagesDropped++;
  }
}
