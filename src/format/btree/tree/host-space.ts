/**
 * The blocks of the file: which are in use, and where the next ones are taken.
 *
 * It is not stored: an opening for writing finds what the trees lead to, and all else is free. So
 * there is nothing to keep in step, and nothing that a crash could leave wrong; what that costs is
 * the time of such an opening.
 *
 * Invariants:
 * - A block that the last durable commit leads to is not used again before a commit that does not
 *   is durable: it is `released`, and becomes free with `settle`.
 * - Nor is it while a request that was in flight when it was released still is: that may read it, or
 *   write to it.
 * - Nodes come from zones of 1 MiB of their own, so that data written one after another are so in
 *   the file too, however often the tree is written between.
 */

import { alignUp } from '../../../core/alignment.ts';
import { andFinally } from '../../../core/pending.ts';
import { Qcow2BenchError } from '../../../core/error.ts';
import { HOST_BLOCKS_MAX, SUPERBLOCKS } from '../on-disk/layout.ts';
import { BlockMap } from './block-map.ts';

const ZONE_BLOCKS = 256;

/** Blocks that follow one another. */
export interface BlockRange {
  readonly block: number;
  readonly blocks: number;
  /** The file system is to get them back. */
  readonly isPunched?: boolean;
}

/** What was released between two moments at which that became durable. */
interface Released {
  readonly epoch: number;
  readonly data: readonly BlockRange[];
  readonly nodes: readonly number[];
}

export class HostSpace {
  readonly #nodeBlocks: number;
  readonly #path: string;
  /** What data may not be put to; whole zones. */
  #used = new BlockMap();
  /** Blocks of zones in which there can be a node; the next one is the last. */
  readonly #freeNodes: number[] = [];
  #end: number = SUPERBLOCKS;
  /** Blocks below the end that data can be put to, and where to look for them. */
  #holes = 0;
  #lookFrom = 0;
  /** No hole has so many blocks. */
  #holeMax = Infinity;

  #data: BlockRange[] = [];
  #nodes: number[] = [];
  /** Nodes that only a commit of the tree lets go. */
  readonly #waiting: Released[] = [];
  #epoch = 0;
  /** Requests in flight, by the epoch in which they began. */
  readonly #inFlight = new Map<number, number>();

  /** @param path for errors */
  constructor(nodeSize: number, path: string) {
    this.#nodeBlocks = nodeSize / 4096;
    this.#path = path;
    this.reset();
  }

  /** Forgets what is in use: only superblocks are. */
  reset(): void {
    this.#used = new BlockMap();
    this.#used.add(0, SUPERBLOCKS);
    this.#freeNodes.length = 0;
    this.#end = SUPERBLOCKS;
    this.#data = [];
    this.#nodes = [];
    this.#waiting.length = 0;
  }

  /** Of a file that is not written to: everything that is taken is behind it. */
  startBehind(end: number): void {
    this.#end = end;
  }

  /** The block behind the last one that is, or was, in use. */
  get end(): number {
    return this.#end;
  }

  /** Of the map of used blocks, in memory. */
  get byteLength(): number {
    return this.#used.byteLength;
  }

  /** While the file is read for what is in use: blocks are. Answers how many of them were not yet. */
  claim(block: number, blocks: number): number {
    this.#end = Math.max(this.#end, block + blocks);
    return this.#used.add(block, blocks);
  }

  /**
   * After all claims: finds the zones of nodes, and the holes.
   *
   * @param nodes where nodes are
   */
  finishClaims(nodes: BlockMap, end: number): void {
    this.#end = Math.max(this.#end, end);
    const zones = Math.ceil(this.#end / ZONE_BLOCKS);
    for (let zone = zones - 1; zone >= 1; zone--) {
      const start = zone * ZONE_BLOCKS;
      if (hasAny(nodes, start)) this.#reserveZone(start);
    }
    this.#reserveZone(0);
    this.#holes = this.#end - this.#used.size;
    this.#lookFrom = 0;
    this.#holeMax = Infinity;
  }

  /**
   * Takes blocks for data.
   *
   * @param hint where to put them if that is free: what the data before them are followed by
   */
  allocate(blocks: number, hint = 0): number {
    if (hint > 0 && hint < this.#end && this.#used.absentRun(hint, blocks) === blocks) {
      return this.#take(hint, blocks);
    }
    if (this.#holes >= blocks && blocks < this.#holeMax) {
      const hole = this.#findHole(blocks);
      if (hole !== undefined) return this.#take(hole, blocks);
    }
    return this.#take(this.#end, blocks);
  }

  /** Takes the blocks of a node. */
  allocateNode(): number {
    const free = this.#freeNodes.pop();
    if (free !== undefined) return free;
    this.#reserveZone(alignUp(this.#end, ZONE_BLOCKS));
    return this.#freeNodes.pop() as number;
  }

  /** Blocks of data that nothing leads to any more. */
  release(block: number, blocks: number, isPunched: boolean): void {
    const last = this.#data.at(-1);
    if (last !== undefined && last.block + last.blocks === block && last.isPunched === isPunched) {
      this.#data[this.#data.length - 1] = { block: last.block, blocks: last.blocks + blocks, isPunched };
    } else this.#data.push({ block, blocks, isPunched });
  }

  /** A node that the next commit of the tree does not lead to. */
  releaseNode(block: number): void {
    this.#nodes.push(block);
  }

  /**
   * What was released so far is durably so.
   *
   * @param withNodes so are nodes: the tree was committed, and not only the journal
   * @returns data that become free: before `reuse` is called, no block of them is used again
   */
  settle(withNodes: boolean): readonly BlockRange[] {
    this.#waiting.push({ epoch: this.#epoch, data: this.#data, nodes: withNodes ? this.#nodes : [] });
    this.#data = [];
    if (withNodes) this.#nodes = [];
    this.#epoch++;
    let oldest = Infinity;
    for (const epoch of this.#inFlight.keys()) oldest = Math.min(oldest, epoch);
    const free: BlockRange[] = [];
    while (this.#waiting.length > 0 && (this.#waiting[0] as Released).epoch < oldest) {
      const { data, nodes } = this.#waiting.shift() as Released;
      for (const range of data) free.push(range);
      for (const node of nodes) this.#freeNodes.push(node);
    }
    return free;
  }

  /** Blocks that `settle` answered can be used. */
  reuse(ranges: readonly BlockRange[]): void {
    if (ranges.length === 0) return;
    for (const { block, blocks } of ranges) {
      this.#holes += this.#used.delete(block, blocks);
      this.#lookFrom = Math.min(this.#lookFrom, block);
    }
    this.#holeMax = Infinity;
  }

  /** Keeps what is released from here on from being used again before the request has ended. */
  async whileInFlight(request: Promise<void>): Promise<void> {
    const epoch = this.#epoch;
    this.#inFlight.set(epoch, (this.#inFlight.get(epoch) ?? 0) + 1);
    await andFinally(request, () => {
      const left = (this.#inFlight.get(epoch) ?? 1) - 1;
      if (left === 0) this.#inFlight.delete(epoch);
      else this.#inFlight.set(epoch, left);
    });
  }

  #take(block: number, blocks: number): number {
    const before = this.#end;
    if (block + blocks > before) {
      if (block + blocks > HOST_BLOCKS_MAX) throw this.#tooLarge();
      this.#end = block + blocks;
    }
    this.#used.add(block, blocks);
    this.#holes -= Math.min(blocks, Math.max(0, before - block));
    return block;
  }

  #findHole(blocks: number): number | undefined {
    for (let at = this.#lookFrom; ;) {
      const start = this.#used.nextAbsent(at);
      if (start >= this.#end) break;
      const run = this.#used.absentRun(start, Math.min(blocks, this.#end - start));
      if (run >= blocks) {
        // Smaller holes before this one are looked at again once there are new ones.
        if (blocks === 1) this.#lookFrom = start + 1;
        return start;
      }
      at = start + run;
    }
    this.#holeMax = Math.min(this.#holeMax, blocks);
    return undefined;
  }

  /** Keeps data out of it; what is free of it is for nodes. */
  #reserveZone(start: number): void {
    const end = start + ZONE_BLOCKS;
    if (end > HOST_BLOCKS_MAX) throw this.#tooLarge();
    if (start > this.#end) this.#holes += start - this.#end;
    this.#end = Math.max(this.#end, end);
    const step = this.#nodeBlocks;
    for (let slot = end - step; slot >= start; slot -= step) {
      if (this.#used.absentRun(slot, step) === step) this.#freeNodes.push(slot);
    }
    this.#used.add(start, ZONE_BLOCKS);
  }

  #tooLarge(): Qcow2BenchError {
    return new Qcow2BenchError(
      'btree-file-too-large',
      'the file would exceed 16 TiB, the most that the format addresses: delete snapshots or discard unused data',
      { path: this.#path },
    );
  }
}

function hasAny(nodes: BlockMap, zone: number): boolean {
  return nodes.size > 0 && nodes.hasAny(zone, zone + ZONE_BLOCKS);
}
