/**
 * A history for a terminal: commits that changed something, oldest first, then courses of times and
 * counts; what never changed takes one line.
 */

import { wrapped, aligned } from '../../core/text-lines.ts';
import { countOf, groupedText } from '../../core/number-text.ts';
import { withVisibleText } from '../../core/visible-text.ts';
import type {
  ChangeRecord,
  EventRecord,
  HistoryRecord,
  TimeChange,
  TimeRecord,
} from '../../history/record.ts';
import { durationText, signedPercentText } from '../numbers.ts';
import { KIND_TITLES } from '../comparison/comparison-text.ts';
import { sparkline } from './sparkline.ts';

type HistoryPaint = Readonly<Record<'bold' | 'red' | 'green' | 'yellow', (text: string) => string>>;

export interface HistoryTextOptions {
  readonly paint?: HistoryPaint;
  /** Columns; at least 80 are used. */
  readonly width?: number;
  /** Lists every cell of each cause. */
  readonly all?: boolean;
}

const WIDTH_MIN = 80;
const WIDTH_DEFAULT = 100;
const CELLS_SHOWN = 3;
const SERIES_SHOWN = 20;
const SPARK_WIDTH = 30;
const COMMIT_WIDTH = 12;
const PLAIN: HistoryPaint = { bold: same, red: same, green: same, yellow: same };

/** Lines joined by line feeds, without one at the end. */
export function historyText(
  history: HistoryRecord,
  { paint = PLAIN, width = WIDTH_DEFAULT, all = false }: HistoryTextOptions = {},
): string {
  const record = withVisibleText(history);
  const page = { paint, width: Math.max(WIDTH_MIN, width), all };
  return [
    ...wrapped(historySummary(record), page.width),
    ...record.events.flatMap((event) => ['', ...eventLines(event, page)]),
    ...timeLines(record, page),
    ...countLines(record, page),
    ...goneLines(record, page),
  ].join('\n');
}

/** What the history holds, in a sentence. */
export function historySummary(record: HistoryRecord): string {
  const { file, commits, lines, from, to, cells, times, environments } = record;
  if (from === undefined || to === undefined) return `${file}: empty`;
  const facts = [
    countOf(cells, 'cell counted', 'cells counted'),
    ...(times.length === 0 ? [] : [countOf(times.length, 'series of times', 'series of times')]),
    countOf(environments.length, 'environment'),
  ];
  const size = lines === commits ? '' : ` in ${countOf(lines, 'line')}`;
  return `${file}: ${countOf(commits, 'commit')}${size}, ${dayOf(from)} to ${dayOf(to)}; ${facts.join(', ')}.`;
}

/** `2026-01-31`. */
export function dayOf(date: string): string {
  return date.slice(0, 10);
}

/** The start of a commit's name, enough to find it. */
export function commitText(commit: string): string {
  return /^[0-9a-f]{16,}$/.test(commit) ? commit.slice(0, COMMIT_WIDTH) : commit;
}

/** What changed beside counts, in words. */
export function eventNotes({ environment, added, otherWorkload, harness }: EventRecord): readonly string[] {
  return [
    ...(harness === undefined ? [] : [`VERSION  qcow2-bench ${harness}`]),
    ...(environment.length === 0 ? [] : [`ENVIRONMENT  ${environment.join('; ')}`]),
    ...(added.length === 0 ? [] : [`NEW  ${listed(added)}`]),
    ...(otherWorkload.length === 0
      ? []
      : [`OTHER WORKLOAD  not compared with the commit before: ${listed(otherWorkload)}`]),
  ];
}

/** `MORE`, or what it may be due to. */
export function changeTitle({ kind, isOfEnvironment }: ChangeRecord): string {
  return isOfEnvironment ? `ENVIRONMENT, ${KIND_TITLES[kind]}` : KIND_TITLES[kind];
}

/** `12.3 µs → 13.8 µs (+12 %)`. */
export function timeChangeText({ beforeNs, afterNs }: TimeChange): string {
  return `${durationText(beforeNs)} → ${durationText(afterNs)} (${signedPercentText(afterNs / beforeNs - 1)})`;
}

/** With the environment where there are several. */
export function timeName({ name, environment }: TimeRecord, { environments }: HistoryRecord): string {
  return environments.length > 1 ? `${name} · environment ${String(environment + 1)}` : name;
}

interface Page {
  readonly paint: HistoryPaint;
  readonly width: number;
  readonly all: boolean;
}

function eventLines(event: EventRecord, page: Page): readonly string[] {
  const { paint, width } = page;
  return [
    paint.bold(`${dayOf(event.date)}  ${event.commit}`),
    ...eventNotes(event).flatMap((note) => wrapped(note, width, '  ').map(paint.yellow)),
    ...event.changes.flatMap((change) => changeLines(change, page)),
  ];
}

function changeLines(change: ChangeRecord, { paint, width, all }: Page): readonly string[] {
  const { kind, isOfEnvironment, sentence, details, cells, firstRequest } = change;
  const colour = { more: paint.red, 'lost-syncs': paint.red, fewer: paint.green, neutral: same }[kind];
  const shown = all ? cells : cells.slice(0, CELLS_SHOWN);
  const rest = cells.length - shown.length;
  return [
    ...wrapped(`${changeTitle(change)}  ${sentence}`, width, '  ').map(
      isOfEnvironment ? paint.yellow : colour,
    ),
    ...details.flatMap((detail) => wrapped(detail, width, '      with ')),
    ...aligned(
      shown.map(({ name, text }) => [name, text]),
      { indent: 6 },
    ),
    ...(rest > 0 ? [`      … and ${groupedText(rest)} more`] : []),
    ...(firstRequest === undefined ? [] : wrapped(firstRequest, width, '      ')),
  ];
}

function timeLines(record: HistoryRecord, { paint, all }: Page): readonly string[] {
  const { times } = record;
  if (times.length === 0) return [];
  const sorted = times.toSorted((a, b) => b.changes.length - a.changes.length);
  const shown = all ? sorted : sorted.slice(0, SERIES_SHOWN);
  const rows = aligned(
    shown.map((series) => [
      sparkline(
        series.points.map(({ medianNs }) => medianNs),
        SPARK_WIDTH,
      ),
      timeName(series, record),
      durationText(series.points.at(-1)?.medianNs),
      countOf(series.points.length, 'commit'),
    ]),
    { indent: 2, numeric: [2, 3] },
  );
  return [
    '',
    paint.bold('Times per request'),
    ...shown.flatMap((series, at) => [
      rows[at] ?? '',
      ...series.changes.map((change) => {
        const isSlower = change.afterNs > change.beforeNs;
        const word = isSlower ? paint.red('SLOWER') : paint.green('FASTER');
        return `    ${word}  ${timeChangeText(change)} from ${dayOf(change.date)} ${commitText(change.commit)} on`;
      }),
    ]),
    ...restLine(times.length - shown.length, 'series'),
  ];
}

function countLines(record: HistoryRecord, { paint, all }: Page): readonly string[] {
  const { counts, unchanged, cells } = record;
  if (cells === 0) return [];
  const shown = all ? counts : counts.slice(0, SERIES_SHOWN);
  const rows = shown.flatMap(({ name, points }) =>
    (['syncs', 'operations'] as const).flatMap((figure) => {
      const values = points.map((point) => point[figure]);
      const [first = 0, last = 0] = [values[0], values.at(-1)];
      if (values.every((value) => value === first)) return [];
      return [[sparkline(values, SPARK_WIDTH), name, figure, `${groupedText(first)} → ${groupedText(last)}`]];
    }),
  );
  return [
    '',
    paint.bold('Counts'),
    ...aligned(rows, { indent: 2 }),
    ...restLine(counts.length - shown.length, 'cells that changed'),
    `  ${countOf(unchanged, 'cell')} without a change in any commit`,
  ];
}

function goneLines({ gone }: HistoryRecord, { paint, width }: Page): readonly string[] {
  if (gone.length === 0) return [];
  const text = `${countOf(gone.length, 'cell')} of earlier commits not counted by the newest: ${listed(gone)}`;
  return ['', ...wrapped(text, width).map(paint.yellow)];
}

function restLine(rest: number, what: string): readonly string[] {
  return rest > 0 ? [`  … and ${groupedText(rest)} more ${what} (--all)`] : [];
}

/** The first of them, and how many more there are. */
export function listed(names: readonly string[]): string {
  const shown = names.slice(0, CELLS_SHOWN).join('; ');
  const rest = names.length - CELLS_SHOWN;
  return rest > 0 ? `${shown}; and ${groupedText(rest)} more` : shown;
}

function same(text: string): string {
  return text;
}
