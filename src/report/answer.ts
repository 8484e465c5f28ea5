/**
 * The answer in words: what lazy refcounts, QED and raw cost and save, or else what the axes that
 * vary do, said from the data and nothing else.
 *
 * Invariants: a sentence is only said if the cells it rests on were counted; a result without them
 * gives fewer sentences, never a guess. Every axis that varies in the counts has a sentence.
 */

import { PLAIN_FORMAT, type Format } from '../core/format-name.ts';
import { countOf } from '../core/number-text.ts';
import { CACHE_AXIS, FORMAT_AXIS } from '../result/axes.ts';
import { cellKey } from '../result/cell.ts';
import { CONFIDENCE_TEXT } from '../result/comparison.ts';
import type { CellRecord } from '../result/schema.ts';
import { syncsPerWriteByCause } from '../result/derive.ts';
import { FORMAT_FACTS, formatsWith, modelName, type CacheMode } from '../result/vocabulary.ts';
import {
  axisComparisons,
  byCost,
  costText,
  type AxisComparison,
  type ComparedCell,
} from './axis-comparison.ts';
import { bytesText, factorText, microsecondsText, percentText, rateText } from './numbers.ts';
import { openingSentence, workloadsAfterCrash } from './opening.ts';
import { cellAt, reportCells, type ReportCell, type ReportCells } from './report-cells.ts';

export interface Answer {
  /**
   * One sentence: what lazy refcounts do where every write must be durable, what they cost after a
   * crash, or what the axis that varies does.
   */
  readonly headline: string;
  readonly points: readonly AnswerPoint[];
  /** Whether the headline answers anything; otherwise it says why there is nothing to compare. */
  readonly isAnswer: boolean;
  /** The cells that the headline speaks of, with what distinguishes them; empty if it speaks of none. */
  readonly reference: readonly NamedCell[];
}

export interface NamedCell {
  readonly name: string;
  readonly cell: ReportCell;
}

export interface AnswerPoint {
  /** What the sentence is about, in a word or two. */
  readonly about: string;
  readonly text: string;
}

/** Modes that do not end each write with a flush, the plainest first. */
const BACK_MODES: readonly CacheMode[] = ['writeback', 'none'];
/** Where eager and lazy refcounts are compared, the modes first in which they differ most. */
const MODES: readonly CacheMode[] = ['writethrough', 'directsync', ...BACK_MODES, 'unsafe'];
/** Figures closer than this are the same to a reader. */
const SAME = 0.005;

export function answerOf(report: ReportCells): Answer {
  const pair = referencePair(report);
  if (pair === undefined) {
    const opening = openingSentence(report.cells.map(({ record }) => record));
    if (opening !== undefined) return { headline: opening, isAnswer: true, points: [], reference: [] };
    return axesAnswer(report);
  }
  const points = [
    writebackPoint(report, pair),
    workloadsPoint(report, pair),
    recordingsPoint(report, pair),
    backingPoint(report, pair),
    // The floor last.
    ...formatsWith(({ refcountModes }) => refcountModes.length === 0)
      .toReversed()
      .map((format) => formatPoint(format, report, pair)),
    modesPoint(report),
    ...axisComparisons(report).filter(isOfSetup).map(axisPoint),
    timePoint(report, pair),
  ];
  return {
    headline: headlineOf(pair),
    isAnswer: true,
    points: points.filter((point) => point !== undefined),
    reference: report.variants
      .map((variant) => cellAt(report, { workload: pair.workload, cache: pair.cache, variant }))
      .filter((cell) => cell !== undefined)
      .map((cell) => ({ name: cell.variant, cell })),
  };
}

/**
 * The keys of the cells whose times the answer of these cells quotes; all if it quotes none of its
 * own.
 */
export function quotedCells(cells: readonly CellRecord[]): ReadonlySet<string> {
  const { reference } = answerOf(reportCells({ cells }));
  const quoted = reference.map(({ cell }) => cell.record);
  return new Set((quoted.length === 0 ? cells : quoted).map(({ cell }) => cellKey(cell)));
}

/** Of a result that does not compare eager with lazy refcounts: by what varies in it. */
function axesAnswer(report: ReportCells): Answer {
  const comparisons = axisComparisons(report);
  const main = comparisons.find(isOfSetup) ?? comparisons[0];
  if (main === undefined) return costAnswer(report);
  return {
    headline: `By ${inSentence(main.axis.title)}, a guest write costs ${costText(main)} (${main.place}).`,
    isAnswer: true,
    points: comparisons.filter((comparison) => comparison !== main).map(axisPoint),
    reference: main.cells.map(({ value, cell }) => ({ name: value, cell })),
  };
}

/** Of a result in which nothing varies, or only the workload. */
function costAnswer(report: ReportCells): Answer {
  const ordered = byCost(report);
  const [dearest, cheapest] = [ordered[0], ordered.at(-1)];
  if (dearest === undefined || cheapest === undefined) {
    const wasCounted = report.cells.some(({ figures }) => figures !== undefined);
    const headline = wasCounted ? 'No guest request wrote anything.' : 'No cell of this result was counted.';
    return { headline, isAnswer: false, points: [], reference: [] };
  }
  const costOf = ({ syncs, bytes, cell }: ComparedCell): string =>
    `${rateText(syncs)} syncs and ${bytesText(bytes)} bytes (${cell.workload})`;
  const cost = dearest === cheapest ? costOf(dearest) : `from ${costOf(cheapest)} to ${costOf(dearest)}`;
  const { variant, cache } = dearest.cell;
  return {
    headline: `With ${variant} and cache=${cache}, a guest write costs ${cost}.`,
    isAnswer: true,
    points: [],
    reference: [{ name: dearest.cell.workload, cell: dearest.cell }],
  };
}

function isOfSetup({ axis }: AxisComparison): boolean {
  return axis !== FORMAT_AXIS && axis !== CACHE_AXIS;
}

function axisPoint(comparison: AxisComparison): AnswerPoint {
  const text = `A guest write costs ${costText(comparison)} (${comparison.place}).`;
  return { about: comparison.axis.title, text };
}

/** A title within a sentence; one that begins with an abbreviation keeps it. */
function inSentence(title: string): string {
  return /^[A-Z][a-z]/.test(title) ? title.charAt(0).toLowerCase() + title.slice(1) : title;
}

interface Counted {
  readonly syncs: number;
  readonly bytes: number;
  readonly cell: ReportCell;
}

interface Pair {
  readonly workload: string;
  readonly cache: CacheMode;
  readonly eager: Counted;
  readonly lazy: Counted;
}

function counted(cell: ReportCell | undefined): Counted | undefined {
  const { syncsPerWrite: syncs, bytesPerWrite: bytes } = cell?.figures ?? {};
  if (cell === undefined || syncs === undefined || syncs === null) return undefined;
  if (bytes === undefined || bytes === null) return undefined;
  return { syncs, bytes, cell };
}

function pairAt(report: ReportCells, workload: string, cache: CacheMode): Pair | undefined {
  const eager = counted(cellAt(report, { workload, cache, variant: 'qcow2 eager' }));
  const lazy = counted(cellAt(report, { workload, cache, variant: 'qcow2 lazy' }));
  return eager === undefined || lazy === undefined ? undefined : { workload, cache, eager, lazy };
}

/**
 * Eager and lazy where the question is plainest: the workload that allocates most and saves most,
 * unbacked.
 */
function referencePair(report: ReportCells): Pair | undefined {
  const pairs = MODES.map((cache) => pairsIn(report, cache)).find((found) => found.length > 0) ?? [];
  const unbacked = pairs.filter(({ eager }) => eager.cell.record.cell.backing === undefined);
  const candidates = unbacked.length > 0 ? unbacked : pairs;
  const rank = (pair: Pair): number => allocatingShare(pair) * (pair.eager.syncs - pair.lazy.syncs);
  // Among equals (to three digits) the smaller write says more: its own bytes do not hide the
  // metadata's.
  return candidates.toSorted(
    (a, b) => Math.round((rank(b) - rank(a)) * 100) || a.lazy.bytes - b.lazy.bytes,
  )[0];
}

/** After a crash the price is the opening, and the few writes that follow mean nothing. */
function pairsIn(report: ReportCells, cache: CacheMode): readonly Pair[] {
  const afterCrash = workloadsAfterCrash(report.cells.map(({ record }) => record));
  return report.workloads
    .filter((workload) => !afterCrash.has(workload))
    .map((workload) => pairAt(report, workload, cache))
    .filter((pair) => pair !== undefined);
}

function allocatingShare({ eager }: Pair): number {
  const guest = eager.cell.record.counts?.guest;
  return guest === undefined || guest.writes === 0 ? 0 : guest.allocatingWrites / guest.writes;
}

function headlineOf(pair: Pair): string {
  const { eager, lazy } = pair;
  const share = allocatingShare(pair);
  const which = share > 0.995 ? 'every write allocates' : `${percentText(share)} of the writes allocate`;
  const syncs = insteadOf(rateText(lazy.syncs), rateText(eager.syncs));
  const bytes = insteadOf(bytesText(lazy.bytes), bytesText(eager.bytes));
  return (
    `With cache=${pair.cache}, lazy refcounts issue ${syncs} syncs and write ${bytes} bytes per guest write ` +
    `(${pair.workload}: ${which}).`
  );
}

/** Figures that a reader cannot distinguish are one. */
function insteadOf(lazy: string, eager: string): string {
  return lazy === eager ? `the same ${lazy}` : `${lazy} instead of ${eager}`;
}

/** The same for a sentence that names eager refcounts afterwards. */
function against(lazy: string, eager: string, unit: string): string {
  return lazy === eager ? `${lazy} ${unit} with either` : `${lazy} instead of ${eager} ${unit}`;
}

/** Nothing where the headline is of such a mode itself. */
function writebackPoint(report: ReportCells, { workload, cache: own }: Pair): AnswerPoint | undefined {
  if (BACK_MODES.includes(own)) return undefined;
  const cache = BACK_MODES.find((mode) => report.caches.includes(mode));
  const pairs = cache === undefined ? [] : pairsIn(report, cache);
  const same = pairs.find((pair) => pair.workload === workload);
  if (cache === undefined || same === undefined) return undefined;
  const figures = against(rateText(same.lazy.syncs), rateText(same.eager.syncs), 'syncs per write');
  const best = pairs.toSorted((a, b) => saved(b) - saved(a))[0];
  const verdict =
    saved(same) < SAME
      ? `lazy refcounts save nothing on ${workload}`
      : `lazy refcounts save ${savingText(same)} of the syncs on ${workload}`;
  const elsewhere =
    best !== undefined && best.workload !== workload && saved(best) >= SAME
      ? ` Where the guest flushes often they still matter: ${rateText(best.lazy.syncs)} instead of ${rateText(best.eager.syncs)} on ${best.workload}.`
      : '';
  return { about: cache, text: `With cache=${cache}, ${verdict}: ${figures}, close included.${elsewhere}` };
}

function workloadsPoint(report: ReportCells, { cache }: Pair): AnswerPoint | undefined {
  const pairs = pairsIn(report, cache).toSorted((a, b) => saving(a) - saving(b));
  const [least, most] = [pairs[0], pairs.at(-1)];
  if (least === undefined || most === undefined || least === most) return undefined;
  const text =
    `Over ${String(pairs.length)} workloads with cache=${cache}, lazy refcounts save ` +
    `from ${savingText(least)} (${least.workload}) to ${savingText(most)} (${most.workload}) of the syncs.`;
  return { about: 'Workloads', text };
}

/** Real programs, which come back to what they wrote: the recordings alone. */
function recordingsPoint(report: ReportCells, { cache }: Pair): AnswerPoint | undefined {
  const pairs = pairsIn(report, cache)
    .filter(({ lazy }) => lazy.cell.record.isRecording === true)
    .toSorted((a, b) => saving(a) - saving(b));
  const [least, most] = [pairs[0], pairs.at(-1)];
  if (least === undefined || most === undefined || pairs.length < 2) return undefined;
  const text =
    `Of real programs, ${String(pairs.length)} recordings, they save from ${savingText(least)} (${least.workload}) ` +
    `to ${savingText(most)} (${most.workload}).`;
  return { about: 'Recordings', text };
}

function backingPoint(report: ReportCells, { cache }: Pair): AnswerPoint | undefined {
  const pair = pairsIn(report, cache).find(({ lazy }) => {
    const { counts } = lazy.cell.record;
    return counts !== null && (syncsPerWriteByCause(counts).get('l2-after-cow') ?? 0) > 0.1;
  });
  if (pair === undefined) return undefined;
  const text =
    `Where new clusters are filled with copied data (${pair.workload}), the copy must be durable before its L2 entry: ` +
    `lazy refcounts issue ${insteadOf(rateText(pair.lazy.syncs), rateText(pair.eager.syncs))} syncs ` +
    `and write ${insteadOf(bytesText(pair.lazy.bytes), bytesText(pair.eager.bytes))} bytes.`;
  return { about: 'Copy-on-write', text };
}

/** A format without refcounts, in the cell of the pair. */
function formatPoint(format: Format, report: ReportCells, pair: Pair): AnswerPoint | undefined {
  const { workload, cache, eager } = pair;
  const { title, lacks = 'refcounts' } = FORMAT_FACTS[format];
  const point = counted(cellAt(report, { workload, cache, variant: title }));
  if (point === undefined) return undefined;
  const figures = `issues ${rateText(point.syncs)} syncs and writes ${bytesText(point.bytes)} bytes per write`;
  const sentence = `${title.charAt(0).toUpperCase()}${title.slice(1)}, which has no ${lacks}, ${figures}`;
  // Every other format does more than the plain one, which needs no comparison.
  if (format === PLAIN_FORMAT) return { about: title, text: `${sentence}.` };
  const against = `qcow2 with eager refcounts ${rateText(eager.syncs)} and ${bytesText(eager.bytes)}`;
  return { about: title, text: `${sentence} there; ${against}.` };
}

/** Which cache modes count alike: said only if every cell agrees. */
function modesPoint(report: ReportCells): AnswerPoint | undefined {
  const alike = [
    ['directsync', 'writethrough'],
    ['none', 'writeback'],
  ] as const;
  const facts = alike
    .filter(([mode, other]) => countAlike(report, mode, other))
    .map(([mode, other]) => `${mode} issues the same syncs as ${other}`);
  const unsafe = report.cells.filter(({ cache, figures }) => cache === 'unsafe' && figures !== undefined);
  if (unsafe.length > 0 && unsafe.every(({ figures }) => (figures?.syncsPerWrite ?? 0) === 0)) {
    facts.push('unsafe issues none at all');
  }
  if (facts.length === 0) return undefined;
  const text = `${facts.join('; ')}.`;
  return { about: 'Cache modes', text: text.charAt(0).toUpperCase() + text.slice(1) };
}

function countAlike(report: ReportCells, mode: CacheMode, other: CacheMode): boolean {
  const cells = report.cells.filter(({ cache }) => cache === mode);
  const agree = cells.every((cell) => {
    const twin = cellAt(report, { workload: cell.workload, variant: cell.variant, cache: other }, cell.setup);
    return twin !== undefined && twin.figures?.syncsPerWrite === cell.figures?.syncsPerWrite;
  });
  return cells.length > 0 && agree;
}

/** Times are in words only if the samples show a difference; those of a model are exact. */
function timePoint(report: ReportCells, { workload, cache, eager, lazy }: Pair): AnswerPoint | undefined {
  const times = { eager: eager.cell.requestTime, lazy: lazy.cell.requestTime };
  if (times.eager === undefined || times.lazy === undefined) return undefined;
  const about = 'Time';
  const raw = cellAt(report, { workload, cache, variant: PLAIN_FORMAT })?.requestTime;
  const floor = raw === undefined ? '' : `, raw ${microsecondsText(raw.median)}`;
  const model = modelName(lazy.cell.record.cell.device);
  const where = model === undefined ? 'On this machine' : `On the modelled device ${model}`;
  const medians =
    `${where} a request of ${workload} with cache=${cache} takes ${microsecondsText(times.lazy.median)} with lazy refcounts ` +
    `and ${microsecondsText(times.eager.median)} with eager ones${floor}`;
  if (model !== undefined) return { about, text: `${medians} (virtual time).` };
  const { comparison } = lazy.cell;
  if (comparison?.reference !== eager.cell.record) {
    const samples = Math.min(times.lazy.n, times.eager.n);
    const have = `${countOf(samples, 'sample')} of ${workload} with cache=${cache}`;
    return {
      about,
      text: `Not known yet: ${have}. For an interval use more --samples or a longer --time-limit.`,
    };
  }
  const { ratio, rounds, verdict } = comparison;
  const interval = `${factorText(ratio.estimate)}, ${CONFIDENCE_TEXT} interval ${factorText(ratio.low)} to ${factorText(ratio.high)}`;
  const shown = `${countOf(rounds, 'round')}: lazy ÷ eager ${interval}`;
  if (verdict !== 'no difference shown') return { about, text: `${medians} (${shown}).` };
  const text = `No difference between lazy and eager refcounts is shown for ${workload} with cache=${cache} (${shown}).`;
  return { about, text };
}

function saved({ eager, lazy }: Pair): number {
  return eager.syncs - lazy.syncs;
}

/** Share of eager's syncs that lazy spares; negative if it adds some. */
function saving(pair: Pair): number {
  return pair.eager.syncs === 0 ? 0 : saved(pair) / pair.eager.syncs;
}

function savingText(pair: Pair): string {
  return percentText(Math.max(0, saving(pair)));
}
