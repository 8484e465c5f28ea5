/**
 * Checking an image: every node of every tree by its checksums and rules, and every block of the file
 * by what has it.
 *
 * Invariants:
 * - What is checked is what an opening finds: the tree in force, and the one that the journal makes of it,
 *   in memory.
 * - Without a repair nothing is written, and neither is where nothing is wrong with the disk's tree.
 * - There are no leaks: what nothing leads to is free.
 * - A repair builds the tree of the disk again, from the extents that can be read and have their blocks
 *   to themselves, in blocks behind the end of the file. Of two that claim a block the first keeps it.
 *   Trees of snapshots stay as they are.
 */

import { Qcow2BenchError } from '../../../core/error.ts';
import type { BlockDevice } from '../../../device/block-device.ts';
import { CheckFindings } from '../../check-findings.ts';
import type { CheckOptions, CheckReport } from '../../check-report.ts';
import type { LoneFile } from '../../format-facts.ts';
import { recounted } from '../../recounted.ts';
import { BLOCK_SIZE, NO_EXTENT, ZERO_EXTENT } from '../on-disk/layout.ts';
import { EMPTY_ROOT, type TreeRoot } from '../on-disk/superblock.ts';
import { walkTree } from '../on-disk/tree-walk.ts';
import { BlockMap } from '../tree/block-map.ts';
import { applyRecords, claimRecords, visitApplied } from '../tree/claims.ts';
import { HostSpace } from '../tree/host-space.ts';
import { ImageCore } from '../tree/image-core.ts';
import { findState, readSnapshots, type FoundState } from '../tree/recovery.ts';

/** Of a tree that is in memory to be checked, or built again. */
const ALONE = { cacheSize: 8 * 1024 * 1024, backing: undefined, punches: false } as const;

/** @throws Qcow2BenchError `btree-bad-magic`, `btree-bad-superblock` … if not even a check can begin */
export async function checkBtree({ device }: LoneFile, options: CheckOptions): Promise<CheckReport> {
  const check = new BtreeCheck(device, await findState(device), options);
  const first = await check.run();
  if (options.repair !== 'all' || check.damages === 0) return first;
  const repaired = await check.repair();
  return recounted(repaired, async () => new BtreeCheck(device, await findState(device), {}).run());
}

class BtreeCheck {
  readonly #device: BlockDevice;
  readonly #state: FoundState;
  readonly #findings: CheckFindings;
  readonly #core: ImageCore;
  readonly #nodes = new BlockMap();
  /** Of the disk's tree: what a repair leaves out. */
  damages = 0;
  /** The host block behind the extent before. */
  #next = -1;

  constructor(device: BlockDevice, state: FoundState, options: CheckOptions) {
    this.#device = device;
    this.#state = state;
    this.#findings = new CheckFindings(options.onDetail);
    this.#core = new ImageCore({
      ...state,
      superblock: { ...state.superblock, root: EMPTY_ROOT },
      device,
      snapshots: [],
      policy: 'two-sync',
      readOnly: false,
      ...ALONE,
    });
  }

  async run(): Promise<CheckReport> {
    const { superblock, records } = this.#state;
    const { space, places } = this.#core;
    const fileBlocks = Math.ceil(this.#device.size() / BLOCK_SIZE);
    for (const { block, blocks } of places) {
      if (block + blocks > fileBlocks) continue;
      this.#claim(block, blocks, () => 'the journal or snapshot table');
    }
    const snapshots = await this.#snapshots();
    await this.#walk(superblock.root, 'the tree', true);
    for (const { id, root } of snapshots) await this.#walk(root, `the tree of snapshot ${id}`, false);
    if (records.length > 0) await this.#applied();
    this.#findings.imageEndOffset = space.end * BLOCK_SIZE;
    claimRecords(space, records);
    return this.#report();
  }

  /** Builds the disk's tree again; to be called after `run`. */
  async repair(): Promise<CheckReport> {
    const { superblock, records } = this.#state;
    const { space, tree, lock } = this.#core;
    // What a damaged node led to may still be recovered by hand.
    space.startBehind(Math.max(space.end, Math.ceil(this.#device.size() / BLOCK_SIZE)));
    const kept = new HostSpace(superblock.nodeSize, this.#device.path);
    const extents: (readonly [guest: number, blocks: number, host: number, epoch: number])[] = [];
    const addAll = async (): Promise<void> => {
      for (const extent of extents.splice(0)) await tree.replace(...extent);
    };
    for (const { block, blocks } of this.#core.places) kept.claim(block, blocks);
    const seen = new BlockMap();
    const { nodeSize } = superblock;
    await walkTree({ device: this.#device, nodeSize }, superblock.root, {
      enters: ({ block }) => {
        const isNew = !seen.has(block) && kept.claim(block, nodeSize / BLOCK_SIZE) === nodeSize / BLOCK_SIZE;
        if (isNew) seen.add(block, nodeSize / BLOCK_SIZE);
        return isNew;
      },
      onExtent: (guest, blocks, host, epoch) => {
        if (this.#isPastEnd(guest, blocks)) return;
        if (host === ZERO_EXTENT || kept.claim(host, blocks) === blocks) {
          extents.push([guest, blocks, host, epoch]);
        }
      },
      onLeaf: addAll,
      onDamage: () => undefined,
    });
    await applyRecords(this.#core, records);
    await visitApplied(this.#core, this.#nodes, ({ guest, blocks }, isAlone) =>
      isAlone ? undefined : tree.replace(guest, blocks, NO_EXTENT),
    );
    this.#core.markChanged();
    await lock.hold(() => this.#core.commit('repair'));
    this.#findings.corruptions -= this.damages;
    this.#findings.corruptionsFixed += this.damages;
    return this.#report();
  }

  /** The tree as an opening finds it: with the records of the journal. */
  async #applied(): Promise<void> {
    const core = new ImageCore({
      ...this.#state,
      device: this.#device,
      snapshots: [],
      policy: 'two-sync',
      readOnly: true,
      ...ALONE,
    });
    core.space.startBehind(Math.ceil(this.#device.size() / BLOCK_SIZE));
    try {
      await applyRecords(core, this.#state.records);
      await visitApplied(core, this.#nodes, ({ guest, blocks, host }, isAlone) => {
        this.#findings.countAllocated(blocks, this.#next === host ? 0 : 1);
        this.#next = host + blocks;
        if (!isAlone) {
          this.#damage(() =>
            overlapText(`the extent of guest block ${String(guest)}, with the journal,`, host),
          );
        }
        return undefined;
      });
    } catch (error) {
      // A node that is damaged was found by the walk.
      if (!(error instanceof Qcow2BenchError)) throw error;
    }
  }

  #report(): CheckReport {
    return this.#findings.report(Math.ceil(this.#state.superblock.virtualSize / BLOCK_SIZE));
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
    const { nodeSize } = this.#state.superblock;
    const nodeBlocks = nodeSize / BLOCK_SIZE;
    await walkTree({ device: this.#device, nodeSize }, root, {
      enters: ({ block }) => {
        const isSeen = this.#nodes.has(block);
        if (isSeen && !isDisk) return false;
        const isFree = this.#claim(block, nodeBlocks, () => `a node of ${name}`, isDisk);
        if (isFree) this.#nodes.add(block, nodeBlocks);
        return isFree;
      },
      onExtent: (guest, blocks, host) => {
        if (!isDisk) {
          if (host !== ZERO_EXTENT) this.#claimShared(host, blocks, () => `an extent of ${name}`);
          return;
        }
        const extent = (): string => `the extent of guest block ${String(guest)}`;
        if (this.#isPastEnd(guest, blocks)) this.#damage(() => `${extent()} is past the end of the disk`);
        else if (host !== ZERO_EXTENT && this.#claim(host, blocks, extent, true)) {
          // With a journal, the tree that comes of it is counted.
          if (this.#state.records.length > 0) return;
          this.#findings.countAllocated(blocks, this.#next === host ? 0 : 1);
          this.#next = host + blocks;
        }
      },
      onDamage: (rule, { block }, { low, high }) => {
        const text = (): string =>
          `node of ${name} at block ${String(block)}: ${rule}; guest blocks ${String(low)} to ${String(high - 1)} are lost`;
        if (isDisk) this.#damage(text);
        else this.#findings.corruption(() => `ERROR ${text()}`);
      },
    });
  }

  #isPastEnd(guest: number, blocks: number): boolean {
    return guest + blocks > Math.ceil(this.#state.superblock.virtualSize / BLOCK_SIZE);
  }

  #damage(text: () => string): void {
    this.damages++;
    this.#findings.corruption(() => `ERROR ${text()}`);
  }

  /** False, and a finding, where something is there already. */
  #claim(block: number, blocks: number, name: () => string, isRepairable = false): boolean {
    if (this.#core.space.claim(block, blocks) === blocks) return true;
    const text = (): string => overlapText(name(), block);
    if (isRepairable) this.#damage(text);
    else this.#findings.corruption(() => `ERROR ${text()}`);
    return false;
  }

  /** Data of a snapshot may be the disk's, or another one's, but no node is there. */
  #claimShared(block: number, blocks: number, name: () => string): void {
    this.#core.space.claim(block, blocks);
    if (this.#nodes.hasAny(block, block + blocks)) {
      this.#findings.corruption(() => `ERROR ${name()} at block ${String(block)} is where a node is stored`);
    }
  }
}

function overlapText(name: string, block: number): string {
  return `${name} at block ${String(block)} is where something else is stored`;
}
