/**
 * A matrix split over machines (`--shard I/N`).
 *
 * Invariants:
 * - All shards of one matrix agree on the split, whatever order the options have: it depends on the
 *   cells, on N and on the known costs alone. Each cell is in exactly one shard.
 * - Cells that are compared in time, and their control, stay together.
 * - Without known costs the shards have as many groups each; with them, the longest groups are
 *   dealt first, each to the shard that has least to do.
 */

import { createHash } from 'node:crypto';

import { cellKey } from '../result/cell.ts';
import { comparisonGroup } from '../result/comparison.ts';
import type { CellRecord, ShardRecord } from '../result/schema.ts';
import type { CellPlan } from './engine.ts';

export interface Shard {
  /** From 1. */
  readonly index: number;
  readonly of: number;
}

export interface ShardOptions {
  /** Cells of an earlier run, with what they took. Default: all groups cost the same. */
  readonly known?: readonly CellRecord[] | undefined;
  /** What else shards must have in common, such as the number of requests. */
  readonly setting?: unknown;
}

/** The cells of one shard, in the order of the matrix, and what the result keeps of the split. */
export function shardOf(
  plans: readonly CellPlan[],
  { index, of }: Shard,
  { known = [], setting }: ShardOptions = {},
): { readonly plans: readonly CellPlan[]; readonly shard: ShardRecord } {
  const shards = dealt(plans, of, known);
  const split = plans.map(({ cell }, position) => [cellKey(cell), shards[position]]);
  const positions = plans.flatMap((_, position) => (shards[position] === index ? [position] : []));
  return {
    plans: positions.flatMap((position) => plans[position] ?? []),
    shard: { index, of, matrix: digestOf([setting, split]).slice(0, 32), positions },
  };
}

/** Of each cell the shard, from 1. */
function dealt(plans: readonly CellPlan[], shards: number, known: readonly CellRecord[]): readonly number[] {
  const costs = new Map(known.map((record) => [cellKey(record.cell), costNs(record)]));
  const groups = Map.groupBy(plans.entries(), ([, { cell }]) => comparisonGroup(cell));
  const units = [...groups].map(([group, cells]) => ({
    hash: digestOf(group),
    positions: cells.map(([position]) => position),
    cost: sumOf(cells.map(([, { cell }]) => costs.get(cellKey(cell)) ?? NaN)),
  }));
  const measured = units.map(({ cost }) => cost).filter((cost) => cost > 0);
  // A group that is not known costs what the others do.
  const usual = measured.length === 0 ? 1 : sumOf(measured) / measured.length;
  const loads = Array.from({ length: shards }, () => 0);
  const result: number[] = [];
  const dealing = units.map((unit) => ({ ...unit, cost: unit.cost > 0 ? unit.cost : usual }));
  for (const { cost, positions } of dealing.sort((a, b) => b.cost - a.cost || (a.hash < b.hash ? -1 : 1))) {
    const least = loads.indexOf(Math.min(...loads));
    loads[least] = (loads[least] ?? 0) + cost;
    for (const position of positions) result[position] = least + 1;
  }
  return result;
}

/** What a cell took: its counting pass, and its samples with those of its control. */
function costNs({ span, timings, control = [] }: CellRecord): number {
  const samples = [...timings, ...control].map(
    ({ elapsedNs, openNs, closeNs }) => elapsedNs + openNs + closeNs,
  );
  return (span?.tookNs ?? 0) + sumOf(samples);
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}

function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex');
}
