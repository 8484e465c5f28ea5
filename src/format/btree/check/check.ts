/**
 * Checking an image: every node of every tree by its checksums and rules, and every block of the file
 * by who has it.
 *
 * Invariants:
 * - Without a repair nothing is written.
 * - There are no leaks: what nothing leads to is free.
 */

import { Qcow2BenchError } from '../../../core/error.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import { CheckFindings } from '../../check-findings.ts';
import type { CheckOptions, CheckReport } from '../../check-report.ts';
import type { LoneFile } from '../../format-facts.ts';
import { BLOCK_SIZE, SUPERBLOCKS, ZERO_EXTENT } from '../on-disk/layout.ts';
import { walkTree } from '../on-disk/tree-walk.ts';
import type { TreeRoot } from '../on-disk/superblock.ts';
import { BlockMap } from '../tree/block-map.ts';
import { findState, readSnapshots, type FoundState } from '../tree/recovery.ts';

/** @throws Qcow2BenchError `btree-bad-magic`, `btree-bad-superblock` … if not even a check can begin */
export async function checkBtree({ device }: LoneFile, options: CheckOptions): Promise<CheckReport> {
  const found = await findState(device);
  const check = new BtreeCheck(device, found, new CheckFindings(options.onDetail));
  return check.run();
}

class BtreeCheck {
  readonly #device: BlockDevice;
  readonly #state: FoundState;
  readonly #findings: CheckFindings;
  readonly #used = new BlockMap();
  readonly #nodes = new BlockMap();
  #end: number = SUPERBLOCKS;

  constructor(device: BlockDevice, state: FoundState, findings: CheckFindings) {
    this.#device = device;
    this.#state = state;
    this.#findings = findings;
  }

  async run(): Promise<CheckReport> {
    const { superblock } = this.#state;
    const { journal, snapshots: table, root, virtualSize } = superblock;
    this.#used.add(0, SUPERBLOCKS);
    this.#claim(journal.block, journal.blocks, () => 'the journal');
    this.#claim(table.block, Math.ceil(table.bytes / BLOCK_SIZE), () => 'the snapshot table');
    await this.#walk(root, 'the tree', true);
    for (const { id, root: snapshotRoot } of await this.#snapshots()) {
      await this.#walk(snapshotRoot, `the tree of snapshot ${id}`, false);
    }
    this.#findings.imageEndOffset = this.#end * BLOCK_SIZE;
    return this.#findings.report(Math.ceil(virtualSize / BLOCK_SIZE));
  }

  async #snapshots() {
    try {
      return await readSnapshots(this.#device, this.#state.superblock);
    } catch (error) {
      if (!(error instanceof Qcow2BenchError)) throw error;
      this.#findings.corruption(() => error.message);
      return [];
    }
  }

  async #walk(root: TreeRoot, name: string, isDisk: boolean): Promise<void> {
    const { nodeSize, virtualSize } = this.#state.superblock;
    const guestBlocks = Math.ceil(virtualSize / BLOCK_SIZE);
    const findings = this.#findings;
    let next = -1;
    await walkTree({ device: this.#device, nodeSize }, root, {
      enters: ({ block }) => {
        const isNew = !this.#nodes.has(block);
        if (!isNew && !isDisk) return false;
        if (!this.#claim(block, nodeSize / BLOCK_SIZE, () => `a node of ${name}`)) return false;
        this.#nodes.add(block, nodeSize / BLOCK_SIZE);
        return true;
      },
      onExtent: (guest, blocks, host) => {
        if (isDisk && guest + blocks > guestBlocks) {
          findings.corruption(
            () => `ERROR extent of guest block ${String(guest)} is past the end of the disk`,
          );
        }
        if (host === ZERO_EXTENT) return;
        if (isDisk) {
          this.#claim(host, blocks, () => `the extent of guest block ${String(guest)}`);
          findings.countAllocated(blocks, next === host ? 0 : 1);
          next = host + blocks;
        } else this.#claimShared(host, blocks, () => `an extent of ${name}`);
      },
      onDamage: (rule, { block }, { low, high }) => {
        findings.corruption(
          () =>
            `ERROR node of ${name} at block ${String(block)}: ${rule}; guest blocks ${String(low)} to ${String(high - 1)} are lost`,
        );
      },
    });
  }

  /** False, and a finding, where something is there already. */
  #claim(block: number, blocks: number, name: () => string): boolean {
    this.#end = Math.max(this.#end, block + blocks);
    if (this.#used.add(block, blocks) === blocks) return true;
    this.#findings.corruption(
      () => `ERROR ${name()} at block ${String(block)} is where something else is stored`,
    );
    return false;
  }

  /** Data of a snapshot may be the disk's, or another one's, but no node is there. */
  #claimShared(block: number, blocks: number, name: () => string): void {
    this.#end = Math.max(this.#end, block + blocks);
    this.#used.add(block, blocks);
    if (this.#nodes.hasAny(block, block + blocks)) {
      this.#findings.corruption(() => `ERROR ${name()} at block ${String(block)} is where a node is stored`);
    }
  }
}
