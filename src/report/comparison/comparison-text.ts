/**
 * Compared results for a terminal: what changed, by cause, then the changed cells; what did not
 * change takes one line.
 *
 * Invariants: no sentence is wider than `width`; without `paint` the text is plain.
 */

import type { ChangeGroup } from '../../compare/change-groups.ts';
import type { ChangeKind, GroupCell } from '../../compare/subject-change.ts';
import { firstRequestText, type FirstRequest } from '../../compare/first-request.ts';
import { beforeAfterText, cellsText, changeText, differenceText } from '../../compare/change-text.ts';
import type { CountsComparison, NamedSide, SideComparison } from '../../compare/compare-results.ts';
import type { TimeComparison } from '../../compare/time-changes.ts';
import { aligned, wrapped } from '../../core/text-lines.ts';
import { withVisibleText } from '../../core/visible-text.ts';
import { countOf, groupedText } from '../../core/number-text.ts';
import { namesAmong } from '../../result/cell.ts';
import type { CountedCell } from '../../result/schema.ts';
import { CONFIDENCE_TEXT } from '../../result/comparison.ts';
import { factorText, microsecondsText } from '../numbers.ts';

export interface ComparisonTextOptions {
  readonly paint?: ComparisonPaint;
  /** Columns; at least 80 are used. */
  readonly width?: number;
  /** Lists every changed cell; otherwise some of each cause. */
  readonly all?: boolean;
}

type ComparisonPaint = Readonly<
  Record<'bold' | 'dim' | 'red' | 'green' | 'yellow', (text: string) => string>
>;

const WIDTH_MIN = 80;
const WIDTH_DEFAULT = 100;
const CELLS_SHOWN = 5;
const PLAIN: ComparisonPaint = { bold: same, dim: same, red: same, green: same, yellow: same };

/** What heads a change of each kind. */
export const KIND_TITLES: Readonly<Record<ChangeKind, string>> = {
  more: 'MORE',
  'lost-syncs': 'FEWER SYNCS',
  fewer: 'FEWER',
  neutral: 'MOVED',
};

/** Lines joined by line feeds, without one at the end. */
export function comparisonText(
  comparisons: readonly SideComparison[],
  { paint = PLAIN, width = WIDTH_DEFAULT, all = false }: ComparisonTextOptions = {},
): string {
  const page = { paint, width: Math.max(WIDTH_MIN, width), all };
  return withVisibleText(comparisons)
    .map((comparison) => sideLines(comparison, { ...page, nameOf: comparedNames(comparison) }).join('\n'))
    .join('\n\n');
}

/** Facts of a side, after its name. */
export function sideFacts({ cells, harness, qemu, date }: NamedSide): string {
  return [
    countOf(cells, 'cell'),
    harness === undefined ? 'a baseline' : `qcow2-bench ${harness}`,
    ...(qemu === undefined ? [] : [`QEMU ${qemu}`]),
    ...(date === undefined ? [] : [date.slice(0, 16).replace('T', ' ')]),
  ].join(', ');
}

/** What the counts come to, in a sentence. */
export function countsSummary(counts: CountsComparison): string {
  const { compared, equal, changed, groups } = counts;
  if (compared === 0) return 'Counts: the results have no cell in common.';
  if (equal === compared) return `Counts: ${countOf(compared, 'cell')} unchanged.`;
  const causes = groups.length === 1 ? 'one cause' : `${groupedText(groups.length)} causes`;
  const text =
    changed.length === 0
      ? ''
      : ` ${groupedText(changed.length)} of ${countOf(compared, 'cell')} changed, by ${causes};`;
  return `Counts:${text} ${groupedText(equal)} unchanged.`;
}

/** Names a cell within a comparison: what all cells have in common is left out. */
export type NameCell = (cell: CountedCell) => string;

export function comparedNames({ counts, times }: SideComparison): NameCell {
  const { changed, samples, workloadChanges, onlyBefore, onlyAfter } = counts;
  const cells = [...changed, ...samples, ...workloadChanges, ...times].map(({ cell }) => cell);
  return namesAmong([...cells, ...onlyBefore, ...onlyAfter]);
}

/** What is not compared, or not exactly, a sentence each. */
export function countsNotes(counts: CountsComparison, nameOf: NameCell): readonly string[] {
  const { samples, workloadChanges, onlyBefore, onlyAfter } = counts;
  return [
    ...workloadChanges.map(({ cell, changes }) => {
      const facts = changes.map(({ field, ...change }) => `${field} ${beforeAfterText(change)}`);
      const what = facts.length === 0 ? 'as many requests, but others' : facts.join(', ');
      return `Incomparable: ${nameOf(cell)}: its guest did something else (${what}).`;
    }),
    ...(samples.length === 0
      ? []
      : [
          `Samples: ${listed(samples.map(({ cell }) => nameOf(cell)))}: counts with --overlap vary from run to run and are not judged.`,
        ]),
    ...(onlyBefore.length === 0 ? [] : [`Only in the first: ${listed(onlyBefore.map(nameOf))}.`]),
    ...(onlyAfter.length === 0 ? [] : [`Only in the second: ${listed(onlyAfter.map(nameOf))}.`]),
  ];
}

/** How the times of a cell changed, in words. */
export function timeText({
  ratio,
  beforeNs,
  afterNs,
  cliffsDelta,
  isExact,
  verdict,
}: TimeComparison): string {
  const medians = `${microsecondsText(beforeNs)} → ${microsecondsText(afterNs)}`;
  if (isExact) return `${medians} (${factorText(afterNs / beforeNs)}, modelled, exact): ${verdict}`;
  if (ratio === undefined) return `${medians}: too few samples: ${verdict}`;
  const interval = `${factorText(ratio.estimate)}, ${CONFIDENCE_TEXT} ${factorText(ratio.low)} to ${factorText(ratio.high)}`;
  return `${medians} (${interval}, Cliff's delta ${cliffsDelta.toFixed(2)}): ${verdict}`;
}

/** What the times come to, in a sentence; `undefined` if none are compared. */
export function timesSummary(times: readonly TimeComparison[]): string | undefined {
  if (times.length === 0) return undefined;
  const verdicts = (['slower', 'faster', 'no change', 'inconclusive'] as const)
    .map((verdict) => ({ verdict, count: times.filter((time) => time.verdict === verdict).length }))
    .filter(({ count }) => count > 0);
  const controls = times.flatMap(({ control }) => (control === undefined ? [] : [control.low, control.high]));
  const noise =
    controls.length === 0
      ? 'without an A/A control'
      : `the A/A control spans ${factorText(Math.min(...controls))} to ${factorText(Math.max(...controls))}`;
  const separate = times.every(({ isExact }) => isExact) ? '' : `; separate runs, ${noise}`;
  return `Times: ${verdicts.map(({ verdict, count }) => `${groupedText(count)} ${verdict}`).join(', ')}${separate}.`;
}

/** In what the results differ as wholes; `undefined` if in nothing. */
export function distinctionsText({ distinctions }: CountsComparison): string | undefined {
  if (distinctions.length === 0) return undefined;
  return `The results differ: ${distinctions.map(({ before, after }) => `${before} → ${after}`).join(', ')}.`;
}

interface Page {
  readonly paint: ComparisonPaint;
  readonly width: number;
  readonly all: boolean;
  readonly nameOf: NameCell;
}

function sideLines(comparison: SideComparison, page: Page): readonly string[] {
  const { before, after, counts, times } = comparison;
  const { paint, width, nameOf } = page;
  const sides = aligned(
    [before, after].map((side, index) => [String.fromCharCode(65 + index), side.name, sideFacts(side)]),
  );
  const distinct = distinctionsText(counts);
  const timed = timesSummary(times);
  return [
    ...sides.map(paint.dim),
    ...(distinct === undefined ? [] : wrapped(distinct, width)),
    '',
    ...wrapped(countsSummary(counts), width).map(paint.bold),
    ...counts.groups.flatMap((group) => ['', ...groupLines(group, counts.compared, page)]),
    ...withGap(countsNotes(counts, nameOf).flatMap((note) => wrapped(note, width).map(paint.yellow))),
    ...(timed === undefined ? [] : ['', ...wrapped(timed, width).map(paint.bold)]),
    ...timeLines(times, page),
  ];
}

function groupLines(group: ChangeGroup, compared: number, page: Page): readonly string[] {
  const { lead, cells, also, first } = group;
  const { paint, width, all, nameOf } = page;
  const colour = { more: paint.red, 'lost-syncs': paint.red, fewer: paint.green, neutral: paint.yellow }[
    lead.kind
  ];
  const sentence = `${KIND_TITLES[lead.kind]}  ${changeText(lead)}, ${cellsText(cells.length, compared)}`;
  const shown = all ? cells : cells.slice(0, CELLS_SHOWN);
  const rest = cells.length - shown.length;
  return [
    ...wrapped(sentence, width).map(colour),
    ...also.flatMap((change) => wrapped(changeText(change), width, '  with ')),
    ...aligned(
      shown.map((cell) => cellRow(cell, nameOf)),
      { indent: 2, numeric: [1] },
    ),
    ...(rest > 0 ? [paint.dim(`  … and ${countOf(rest, 'more cell')} (--all lists them)`)] : []),
    ...(first === undefined ? [] : wrapped(firstText(first), width, '  ')),
  ];
}

/** The first request of the first cell that costs something else. */
export function firstText(first: FirstRequest): string {
  return `first: ${firstRequestText(first)}`;
}

function cellRow({ cell, change }: GroupCell, nameOf: NameCell): readonly string[] {
  const amounts = change.ops.before === change.ops.after ? change.bytes : change.ops;
  const unit = change.ops.before === change.ops.after ? ' B' : '';
  return [nameOf(cell), `${beforeAfterText(amounts)}${unit}`, differenceText(amounts)];
}

function timeLines(times: readonly TimeComparison[], { width, all, nameOf }: Page): readonly string[] {
  const changed = times.filter(({ verdict }) => verdict === 'slower' || verdict === 'faster');
  const shown = all ? changed : changed.slice(0, 2 * CELLS_SHOWN);
  const rest = changed.length - shown.length;
  return [
    ...shown.flatMap((time) =>
      wrapped(`${timeCellName(time, nameOf)}: ${timeText(time)}`, width - 2).map((line) => `  ${line}`),
    ),
    ...(rest > 0 ? [`  … and ${countOf(rest, 'more cell')} (--all lists them)`] : []),
  ];
}

/** With the device, on which times depend. */
export function timeCellName({ cell }: TimeComparison, nameOf: NameCell): string {
  return `${nameOf(cell)} · ${cell.device}`;
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, CELLS_SHOWN);
  const rest = names.length - shown.length;
  return shown.join('; ') + (rest > 0 ? `; and ${groupedText(rest)} more` : '');
}

function withGap(lines: readonly string[]): readonly string[] {
  return lines.length === 0 ? [] : ['', ...lines];
}

function same(text: string): string {
  return text;
}
