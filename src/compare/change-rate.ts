/**
 * By how much a count changed for each of what causes it: per allocating write, per flush, per run.
 *
 * The unit is the one in which the change is most regular over the cells of a group: one more sync
 * for each allocating write is 1.00 in every cell, however many writes each has.
 */

import type { GuestCounts } from '../result/schema.ts';
import type { Phase } from '../result/vocabulary.ts';
import type { GroupCell, Subject, SubjectChange } from './subject-change.ts';

/** What a change is divided by. */
export type RateUnit =
  'allocating write' | 'write' | 'flush' | 'discard' | 'zero-write' | 'read' | 'open' | 'close' | 'run';

export interface ChangeRate {
  /** Operations; bytes where the number of operations did not change. */
  readonly of: 'ops' | 'bytes';
  readonly per: RateUnit;
  /** Over all cells together; negative: fewer. */
  readonly mean: number;
  /** The least and the most of any cell. */
  readonly min: number;
  readonly max: number;
}

type GuestUnit = readonly [keyof GuestCounts, RateUnit];

const WRITE_UNITS: readonly GuestUnit[] = [
  ['allocatingWrites', 'allocating write'],
  ['writes', 'write'],
  ['discards', 'discard'],
  ['writeZeroes', 'zero-write'],
];

/** What may cause operations of a kind. */
const GUEST_UNITS: Readonly<Record<Subject['kind'], readonly GuestUnit[]>> = {
  syncs: [...WRITE_UNITS, ['flushes', 'flush']],
  elided: [...WRITE_UNITS, ['flushes', 'flush']],
  writes: WRITE_UNITS,
  zeroRanges: WRITE_UNITS,
  punchHoles: WRITE_UNITS,
  truncates: WRITE_UNITS,
  reads: [['reads', 'read'], ...WRITE_UNITS],
};

/** The rate at which a subject changed in cells; at least one. */
export function changeRate(cells: readonly GroupCell[]): ChangeRate {
  const of = cells.some(({ change }) => change.ops.after !== change.ops.before) ? 'ops' : 'bytes';
  const differences = cells.map(({ change }) => change[of].after - change[of].before);
  const [first] = cells;
  if (first === undefined) throw new Error('internal error: a change of no cell');
  const guestUnits = first.change.phases.includes('run') ? GUEST_UNITS[first.change.subject.kind] : [];
  const rates = [
    rateOver(differences, { of, per: cellUnit(first.change), counts: cells.map(() => 1) }),
    ...guestUnits.map(([field, per]) =>
      rateOver(differences, { of, per, counts: cells.map(({ guest }) => guest[field]) }),
    ),
  ].filter((rate) => rate !== undefined);
  const regular = rates.filter((rate) => spreadOf(rate) <= REGULAR);
  // Where no unit is regular, requests explain more than the run as a whole.
  const [found] =
    regular.length > 0 ? regular.toSorted((a, b) => score(a) - score(b)) : [rates[1] ?? rates[0]];
  if (found === undefined) throw new Error('internal error: a change without a rate');
  return found;
}

/** Spread of a rate, as a share of its mean, above which it is no rule. */
const REGULAR = 0.5;

function rateOver(
  differences: readonly number[],
  {
    of,
    per,
    counts,
  }: { readonly of: ChangeRate['of']; readonly per: RateUnit; readonly counts: readonly number[] },
): ChangeRate | undefined {
  if (counts.some((count) => count === 0)) return undefined;
  const rates = differences.map((difference, index) => difference / (counts[index] ?? 1));
  return {
    of,
    per,
    mean: total(differences) / total(counts),
    min: Math.min(...rates),
    max: Math.max(...rates),
  };
}

function cellUnit({ phases }: SubjectChange): RateUnit {
  const [only, another] = phases;
  return another === undefined && only !== undefined ? CELL_UNITS[only] : 'run';
}

const CELL_UNITS: Readonly<Record<Phase, RateUnit>> = { open: 'open', run: 'run', close: 'close' };

/** Lower is better: how unequal the cells are, then how far from a whole number the rate is. */
function score(rate: ChangeRate): number {
  const isWhole = Number.isInteger(rate.mean);
  // A few operations of a long run are best named as such; many are due to the requests.
  const isMany = rate.per === 'run' && Math.abs(rate.mean) > RUN_MAX;
  return spreadOf(rate) + (isWhole ? 0 : 0.01) + (isMany ? 0.005 : 0);
}

const RUN_MAX = 8;

function spreadOf({ min, max, mean }: ChangeRate): number {
  return mean === 0 ? max - min : (max - min) / Math.abs(mean);
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
