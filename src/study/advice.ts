/**
 * Which settings suit a workload: those that are compared, their order, and the one to take.
 *
 * Invariants:
 * - Settings are ordered by modelled time over all devices, the geometric mean of what each takes
 *   relative to the fastest on it.
 * - What takes at most `NEAR` more than the fastest counts as equal to it, and of equal settings the
 *   plainest is taken: a model does not know small differences.
 * - Only qcow2 and raw are taken; QED is no longer developed, and is in the table to compare with.
 */

import { QEMU_FORMATS } from '../core/format-name.ts';
import type { CacheMode } from '../result/vocabulary.ts';
import { axisValue, NO_VALUE } from './axes.ts';
import type { Study } from './schema.ts';
import { requiredFigure, figureIn, type StudyRow, type StudyTable } from './table.ts';

/** The cells that advice is based on, as those of a study. */
export const ADVICE_CELLS: Pick<Study, 'axes' | 'fixed'> = {
  axes: {
    format: [...QEMU_FORMATS],
    refcounts: ['eager', 'lazy'],
    preallocation: ['off', 'metadata', 'falloc'],
    'cluster-size': ['64KiB', '256KiB'],
    'extended-l2': ['off', 'on'],
    cache: ['none', 'writethrough'],
  },
  fixed: {},
};

/** A setting that takes so many times as long as another counts as equal to it. */
const NEAR = 1.05;

export interface Setting {
  readonly row: StudyRow;
  /** `qcow2, lazy refcounts, preallocation=metadata`. */
  readonly name: string;
  /** The same for a column: `qcow2 lazy metadata`. */
  readonly shortName: string;
  /** How many times as long as the fastest it takes, over all devices. */
  readonly score: number;
  /** What has to be given up for it, in words. */
  readonly costs: readonly string[];
}

export interface Advice {
  readonly cache: CacheMode;
  /** The fastest first. */
  readonly ranked: readonly Setting[];
  /** Of qcow2; `undefined` if none was run. */
  readonly fastest: Setting | undefined;
  readonly taken: Setting | undefined;
  /** What `qemu-img create -f qcow2` makes. */
  readonly usual: Setting | undefined;
  readonly raw: Setting | undefined;
}

/** One for each cache mode, in the order of the table. */
export function adviceOf(table: StudyTable): readonly Advice[] {
  return [...Map.groupBy(table.rows, ({ cell }) => cell.cache)].map(([cache, rows]) => {
    const ranked = rankedSettings(rows, table);
    const qcow2 = ranked.filter(({ row }) => row.cell.refcounts !== null);
    const raw = ranked.filter(({ row }) => row.cell.clusterSize === null);
    const [fastest] = qcow2;
    const usual = qcow2.find(({ row }) => plainness(row) === 0);
    const plainest = plainestOf(qcow2);
    const isUsualAsGood =
      plainest !== undefined && usual !== undefined && usual.score <= plainest.score * NEAR;
    return {
      cache,
      ranked,
      fastest,
      taken: isUsualAsGood ? usual : plainest,
      usual,
      raw: plainestOf(raw),
    };
  });
}

/** How much less time `setting` takes than `other`, as a share; negative if it takes more. */
export function timeSaved(setting: Setting, other: Setting): number {
  return 1 - setting.score / other.score;
}

function rankedSettings(rows: readonly StudyRow[], table: StudyTable): readonly Setting[] {
  const timeOf = (row: StudyRow, device: string): number | null =>
    figureIn(row, requiredFigure(`time:${device.replace(/^model:/, '')}`));
  const fastest = table.devices.map((device) =>
    Math.min(...rows.map((row) => timeOf(row, device) ?? Infinity)),
  );
  const settings = rows.flatMap((row): Setting[] => {
    const ratios = table.devices.map(
      (device, index) => (timeOf(row, device) ?? NaN) / (fastest[index] ?? NaN),
    );
    const score = Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length);
    return Number.isFinite(score) ? [{ row, ...settingNames(row), score, costs: costsOf(row) }] : [];
  });
  return settings.toSorted((a, b) => a.score - b.score || plainness(a.row) - plainness(b.row));
}

function plainestOf(ranked: readonly Setting[]): Setting | undefined {
  const [first] = ranked;
  if (first === undefined) return undefined;
  const near = ranked.filter(({ score }) => score <= first.score * NEAR);
  return near.toSorted((a, b) => plainness(a.row) - plainness(b.row) || a.score - b.score)[0];
}

/** Values other than these have a price, by which settings are ordered. */
const PRICES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  refcounts: { eager: 0, [NO_VALUE]: 0, lazy: 1 },
  preallocation: { off: 0, metadata: 1, falloc: 4, full: 5 },
  'cluster-size': { '64KiB': 0, [NO_VALUE]: 0 },
  'extended-l2': { off: 0, on: 1 },
};
const OTHER_PRICE = 1;
/** Bytes. */
const USUAL_CLUSTER = 65_536;

/** 0 of what is made by default; more of what has a price. */
function plainness({ cell }: StudyRow): number {
  return Object.entries(PRICES).reduce(
    (sum, [axis, prices]) => sum + (prices[axisValue(cell, axis)] ?? OTHER_PRICE),
    0,
  );
}

function settingNames({ cell }: StudyRow): Pick<Setting, 'name' | 'shortName'> {
  const parts = Object.keys(PRICES).flatMap((axis): { name: string; short: string }[] => {
    const value = axisValue(cell, axis);
    const isUsual = value === NO_VALUE || (PRICES[axis]?.[value] ?? OTHER_PRICE) === 0;
    if (isUsual && !(axis === 'refcounts' && value !== NO_VALUE)) return [];
    switch (axis) {
      case 'refcounts':
        return [{ name: `${value} refcounts`, short: value }];
      case 'extended-l2':
        return [{ name: 'extended L2', short: 'ext-L2' }];
      case 'cluster-size':
        return [{ name: `clusters of ${value}`, short: value }];
      default:
        return [{ name: `${axis}=${value}`, short: value }];
    }
  });
  const format = axisValue(cell, 'format');
  return {
    name: [format, ...parts.map(({ name }) => name)].join(', '),
    shortName: [format, ...parts.map(({ short }) => short)].join(' '),
  };
}

function costsOf({ cell }: StudyRow): readonly string[] {
  const costs = {
    lazy: 'after a crash the next open reads all tables and rebuilds the refcounts',
    metadata: 'the empty image has all its tables',
    falloc: 'the image takes the space of the whole disk',
    large: 'a new cluster takes its whole size, however little of it is written',
    extended: 'needs QEMU 5.2 or newer, and twice the L2 cache',
    raw: 'no snapshots, no backing file',
  };
  return [
    ...(cell.clusterSize === null ? [costs.raw] : []),
    ...(cell.refcounts === 'lazy' ? [costs.lazy] : []),
    ...(axisValue(cell, 'preallocation') === 'metadata' ? [costs.metadata] : []),
    ...(axisValue(cell, 'preallocation') === 'falloc' ? [costs.falloc] : []),
    ...((cell.clusterSize ?? 0) > USUAL_CLUSTER ? [costs.large] : []),
    ...(axisValue(cell, 'extended-l2') === 'on' ? [costs.extended] : []),
  ];
}
