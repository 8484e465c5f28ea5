/** The data of a page, made from a result and packed. */

import { deflateRawSync } from 'node:zlib';

import { decodeFromCompressedBase64 } from 'hdr-histogram-js';

import { AXES, CACHE_AXIS, FORMAT_AXIS, varyingAxes, type Axis } from '../result/axes.ts';
import { countingKey, inFormat, namesAmong } from '../result/cell.ts';
import { comparisonsOf, type Comparison } from '../result/comparison.ts';
import { bytesPerWriteByPurpose, deriveFigures, syncsPerWriteByCause } from '../result/derive.ts';
import type { Cell, CellRecord, Latency, ResultRecord } from '../result/schema.ts';
import { requestTimeNs, spreadOf } from '../result/statistics.ts';
import { medianInterval } from '../result/bootstrap.ts';
import { modelName } from '../result/vocabulary.ts';
import { remarksOf } from './cell-table.ts';
import type { CloserLook } from './closer-look.ts';
import {
  FIGURES,
  type Column,
  type FigureName,
  type LatencyCurve,
  type PageAxis,
  type PageData,
  type PageDetails,
  type PageRatio,
  type PageRepair,
  type PageRequests,
} from './page-format.ts';
import { CostTexts, pageModels, pageRequests } from './page-requests.ts';
import { VARIANT_COLOURS } from './palette.ts';

export interface PageDataOptions {
  readonly quoted: readonly CellRecord[];
}

export function pageData(result: ResultRecord, { quoted }: PageDataOptions): PageData {
  const { cells } = result;
  const axes = pageAxes(cells.map(({ cell }) => cell));
  const comparisons = new Map(comparisonsOf(result).map((each) => [each.record, each]));
  const columns = cells.map(figuresOf);
  const of = (name: FigureName): Column => columns.map((each) => rounded(each[name] ?? null));
  return {
    axes: axes.map(({ axis }) => axis),
    places: axes.map(({ places }) => places),
    names: namesOf(cells),
    figures: Object.fromEntries(FIGURES.map((name) => [name, of(name)])) as Record<FigureName, Column>,
    causes: parts(cells, ({ counts }) => counts && syncsPerWriteByCause(counts)),
    purposes: parts(
      cells,
      ({ counts }) =>
        counts && new Map([...bytesPerWriteByPurpose(counts)].filter(([name]) => name !== 'data')),
    ),
    split: parts(
      cells,
      ({ timeSplit: split }) =>
        split &&
        new Map([
          ['syncs', split.syncNs / split.requests],
          ['metadata', split.metadataNs / split.requests],
          ['data', split.dataNs / split.requests],
          ['harness', split.harnessNs / split.requests],
        ]),
    ),
    samples: cells.map((record) => timesOf(record).map((ns) => Math.round(ns))),
    ratios: cells.map((record) => ratioOf(comparisons.get(record))),
    remarks: cells.map(remarksOf),
    quoted: quoted.map((record) => cells.indexOf(record)).filter((index) => index >= 0),
  };
}

/** Names of cells that no two share, without what all have in common. */
function namesOf(cells: readonly CellRecord[]): readonly string[] {
  const nameOf = namesAmong(cells.map(({ cell }) => cell));
  const devices = new Set(cells.map(({ cell }) => cell.device));
  return cells.map(({ cell }) => [nameOf(cell), ...(devices.size > 1 ? [cell.device] : [])].join(' · '));
}

/** Both of some cells. */
export interface PageDetailsOptions {
  readonly looks: ReadonlyMap<CellRecord, CloserLook>;
  readonly repairs: readonly PageRepair[];
}

export function pageDetails(
  { cells, environment }: ResultRecord,
  { looks, repairs }: PageDetailsOptions,
): PageDetails {
  const costs = new CostTexts();
  const requests = cells.map((record) => requestsOf(record, costs));
  return {
    costs: costs.texts,
    requests,
    models: pageModels(environment.deviceModels),
    latency: cells.map(({ latency }) =>
      latency === undefined
        ? null
        : Object.fromEntries(Object.entries(latency).map(([op, each]) => [op, curveOf(each)])),
    ),
    operations: cells.map((record) => looks.get(record)?.operations ?? null),
    modelled: modelledTimes(cells, looks),
    repairs,
  };
}

/** Data as the text of a script element: JSON, deflated, in Base64. */
export function packed(data: object): string {
  return deflateRawSync(JSON.stringify(data), { level: 9 }).toString('base64');
}

interface PlacedAxis {
  readonly axis: PageAxis;
  readonly places: readonly number[];
}

const WORKLOAD: Axis = {
  name: 'workload',
  title: 'Workload',
  coordinate: 'workload',
  textOf: ({ workload }) => workload,
};
const ENGINE: Axis = {
  name: 'engine',
  title: 'Engine',
  coordinate: 'engine',
  textOf: ({ engine }) => engine,
};
const DEVICE: Axis = {
  name: 'device',
  title: 'Device',
  coordinate: 'device',
  textOf: ({ device }) => device,
};
const FORMAT: Axis = {
  name: 'format',
  title: 'Format',
  coordinate: 'format',
  textOf: ({ format }) => format,
};
const REFCOUNTS: Axis = {
  name: 'refcounts',
  title: 'Refcounts',
  coordinate: 'refcounts',
  textOf: ({ refcounts }) => refcounts ?? '',
};
/** Axes of every result. */
const ALWAYS: readonly string[] = [WORKLOAD.name, FORMAT_AXIS.name, CACHE_AXIS.name];

/**
 * Axes of which the cells have more than one value, and those that every result has. Those that vary
 * only from workload to workload, or that another axis shows too, are only to filter by.
 */
function pageAxes(cells: readonly Cell[]): readonly PlacedAxis[] {
  const known = new Set<string>();
  const all = [WORKLOAD, ...AXES, ENGINE, DEVICE, FORMAT, REFCOUNTS].filter(
    ({ name }) => !known.has(name) && known.add(name),
  );
  const pivoted = new Set([
    ...ALWAYS,
    ...varyingAxes(cells).map(({ name }) => name),
    ENGINE.name,
    DEVICE.name,
  ]);
  return all.flatMap((axis) => {
    const texts = cells.map((cell) => (isApplicable(axis, cell, cells) ? shortText(axis, cell) : ''));
    const values = inOrder(axis, [...new Set(texts.filter((text) => text !== ''))]);
    if (values.length < 2 && !ALWAYS.includes(axis.name)) return [];
    const { name, title } = axis;
    const isHidden = pivoted.has(name) ? {} : ({ isHidden: true } as const);
    const places = texts.map((text) => values.indexOf(text));
    return [{ axis: { name, title, values, ...isHidden }, places }];
  });
}

/** Without the words that the title repeats: `preallocation off` is `off`. */
function shortText({ title, name, textOf }: Axis, cell: Cell): string {
  const text = textOf(cell);
  const starts = [`${name}=`, `${title.toLowerCase()} `, `${name.replaceAll('-', ' ')} `, `${name} `];
  const start = starts.find((each) => text.startsWith(each) && text.length > each.length);
  return start === undefined ? text : text.slice(start.length);
}

/** Whether the format of the cell has the axis at all. */
function isApplicable({ coordinate, part }: Axis, cell: Cell, cells: readonly Cell[]): boolean {
  if (coordinate === 'refcounts' || coordinate === 'format') return true;
  const example = cells
    .map((each) => each[coordinate])
    .find((value) => (part === undefined ? (value ?? null) !== null : hasPart(value, part)));
  if (example === undefined) return true;
  const value = inFormat(coordinate, example, cell.format) ?? null;
  return part === undefined ? value !== null : hasPart(value, part);
}

function hasPart(value: unknown, part: string): boolean {
  return typeof value === 'object' && value !== null && part in value;
}

/** Variants in the order of the palette; numbers and sizes by value; others as they come. */
function inOrder({ name }: Axis, values: string[]): readonly string[] {
  if (name === 'variant') {
    const order = Object.keys(VARIANT_COLOURS);
    return values.toSorted((a, b) => order.indexOf(a) - order.indexOf(b));
  }
  const sizes = values.map(sizeOf);
  if (sizes.some((size) => size === undefined)) return values;
  return values.toSorted((a, b) => (sizeOf(a) ?? 0) - (sizeOf(b) ?? 0));
}

const UNITS: Readonly<Record<string, number>> = { '': 1, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

function sizeOf(text: string): number | undefined {
  const [, number, unit = ''] = /^(\d+)([KMG]?i?B)?$/.exec(text) ?? [];
  const factor = UNITS[unit];
  return number === undefined || factor === undefined ? undefined : Number(number) * factor;
}

function figuresOf(record: CellRecord): Partial<Record<FigureName, number | null | undefined>> {
  const { counts, latency } = record;
  const times = timesOf(record);
  const interval = medianInterval(times);
  const write = latency?.write;
  const reads = counts !== null && counts.guest.writes === 0 && counts.guest.reads > 0 ? counts : undefined;
  return {
    ...(counts === null ? {} : deriveFigures(counts)),
    readsPerRead: reads && reads.run.reads.ops / reads.guest.reads,
    readBytesPerRead: reads && reads.run.reads.bytes / reads.guest.reads,
    timeNs: spreadOf(times)?.median,
    timeLowNs: interval?.low,
    timeHighNs: interval?.high,
    p50Ns: write?.p50Ns,
    p99Ns: write?.p99Ns,
    p999Ns: write?.p999Ns,
    maxNs: write?.maxNs,
  };
}

/** A replay by the trace's times takes as long as the trace: that is no cost of the format. */
function timesOf({ cell, timings }: CellRecord): readonly number[] {
  return cell.timing === undefined ? timings.map(requestTimeNs) : [];
}

function ratioOf(comparison: Comparison | undefined): PageRatio | null {
  if (comparison === undefined) return null;
  const { ratio, control, detectable, rounds, cliffsDelta, verdict } = comparison;
  return {
    estimate: ratio.estimate,
    low: ratio.low,
    high: ratio.high,
    control: control === undefined ? null : [control.low, control.high],
    detectable: detectable ?? null,
    rounds,
    cliffsDelta,
    verdict,
  };
}

function parts(
  cells: readonly CellRecord[],
  partsOf: (record: CellRecord) => ReadonlyMap<string, number> | null | undefined,
): Readonly<Record<string, Column<number>>> {
  const all = cells.map((record) => partsOf(record) ?? new Map<string, number>());
  const names = new Set(all.flatMap((each) => [...each.keys()]));
  return Object.fromEntries(
    [...names].map((name) => [name, all.map((each) => rounded(each.get(name) ?? 0) ?? 0)]),
  );
}

function requestsOf(record: CellRecord, costs: CostTexts): PageRequests | null {
  const { cell, counts, requests } = record;
  if (requests === undefined || counts === null) return null;
  const { data, cow } = counts.run.writes.byPurpose;
  const { allocatingWrites } = counts.guest;
  return pageRequests(requests, costs, {
    cell,
    dataBytes: data === undefined || data.ops === 0 ? 0 : data.bytes / data.ops,
    fillBytes: cow === undefined || allocatingWrites === 0 ? 0 : cow.bytes / allocatingWrites,
  });
}

/** Of cells that were timed on models, and of those that were looked at; whatever device they name. */
function modelledTimes(
  cells: readonly CellRecord[],
  looks: ReadonlyMap<CellRecord, CloserLook>,
): readonly (Readonly<Record<string, number>> | null)[] {
  const known = new Map<string, Map<string, number>>();
  const add = (cell: Cell, model: string, ns: number): void => {
    const key = countingKey(cell);
    const times = known.get(key) ?? new Map<string, number>();
    known.set(key, times.set(model, Math.round(ns)));
  };
  for (const [{ cell }, { modelled }] of looks) for (const [model, ns] of modelled) add(cell, model, ns);
  for (const record of cells) {
    const model = modelName(record.cell.device);
    const ns = spreadOf(timesOf(record))?.median;
    if (model !== undefined && ns !== undefined) add(record.cell, model, ns);
  }
  return cells.map(({ cell }) => {
    const times = known.get(countingKey(cell));
    return times === undefined ? null : Object.fromEntries(times);
  });
}

/** Shares at which a curve has points: evenly in nines. */
const SHARES: readonly number[] = [
  ...[0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85],
  ...[0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.993, 0.995, 0.997, 0.998],
  ...[0.999, 0.9993, 0.9995, 0.9997, 0.9999, 0.99995, 0.99999],
];

function curveOf({ histogram: text, requests }: Latency): LatencyCurve {
  try {
    const histogram = decodeFromCompressedBase64(text);
    const shares = SHARES.filter((share) => share <= 1 - 1 / Math.max(1, requests));
    const points = shares.map((share) => [share, histogram.getValueAtPercentile(share * 100)] as const);
    return [...points, [1, histogram.maxValue] as const];
  } catch {
    // A histogram that is damaged has no curve; the percentiles of the record are in the table.
    return [];
  }
}

/** More digits than any text shows. */
function rounded(value: number | null): number | null {
  return value === null ? null : Number(value.toPrecision(9));
}
