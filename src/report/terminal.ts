/**
 * The summary for a terminal: the answer in words, then a table of cells.
 *
 * Invariants: no line is wider than `width`; without `paint` the text is plain, so a pipe or a log
 * gets no escape codes.
 */

import { shortened, wrapped } from '../core/text-lines.ts';
import { withVisibleText } from '../core/visible-text.ts';
import { countOf } from '../core/number-text.ts';
import type { ResultRecord } from '../result/schema.ts';
import type { CacheMode } from '../result/vocabulary.ts';
import { answerOf } from './answer.ts';
import { BELOW_NOTE, belowTable } from './below-text.ts';
import { CELL_COLUMNS, READ_COLUMNS, remarksOf } from './cell-table.ts';
import { controlText, warningsOf } from './certainty.ts';
import { discardNote } from './discard-note.ts';
import { OPENING_COLUMNS, openingsOf, openingTexts } from './opening.ts';
import { parityTexts } from './parity-text.ts';
import { predictionsOf, predictionText } from './prediction.ts';
import { fidelityRows, fidelityText, TERMINAL_FIDELITY_COLUMNS, verificationText } from './replay-text.ts';
import { reportCells, type ReportCell, type ReportCells } from './report-cells.ts';

export interface TerminalOptions {
  /** Styles for headings and warnings; without it the text is plain. */
  readonly paint?: Readonly<Record<'bold' | 'dim' | 'yellow', (text: string) => string>>;
  /** Columns of the terminal; at least 80 are used, at most 100. */
  readonly width?: number;
  /** Lists every cell; otherwise a large result is cut to the modes that the answer compares. */
  readonly all?: boolean;
}

const WIDTH_MIN = 80;
const WIDTH_MAX = 100;
/** A table with more lines than this is cut. */
const LINES_MAX = 60;
const TELLING_MODES: readonly CacheMode[] = ['writethrough', 'writeback'];
const GAP = '  ';
const UNPAINTED = { bold: same, dim: same, yellow: same };
/** What a figure that was not taken looks like in the table. */
const SAYS_NOTHING: ReadonlySet<string> = new Set(['', '–']);
const ELLIPSIS = '…';

/** Lines joined by line feeds, without one at the end. */
export function terminalSummary(record: ResultRecord, options: TerminalOptions = {}): string {
  const paint = options.paint ?? UNPAINTED;
  const result = withVisibleText(record);
  const width = Math.min(WIDTH_MAX, Math.max(WIDTH_MIN, options.width ?? WIDTH_MAX));
  const report = reportCells(result);
  const answer = answerOf(report);
  const headline = spokenHeadline(report);
  const shown = shownCells(report, options.all === true);
  const hidden = recordCount(report.cells) - recordCount(shown);
  const points = answer.points.map(({ about, text }) => wrapped(text, width, about, HEADING_WIDTH));
  const control = controlText(report);
  const discards = discardNote(result.cells);
  const lines = [
    ...(headline === undefined ? [] : [...wrapped(headline, width).map((line) => paint.bold(line)), '']),
    ...(points.length === 0 ? [] : [...points.flat(), '']),
    ...tableLines(shown, width, (heading) => paint.dim(heading), paint.bold),
    ...openingLines(result, width, (heading) => paint.dim(heading)),
    ...belowLines(result, width, (heading) => paint.dim(heading)),
    ...remarkLines(report.cells).flatMap((remark) =>
      wrapped(remark, width).map((line) => paint.yellow(line)),
    ),
    ...parityLines(result, width),
    ...replayLines(result, width, (heading) => paint.dim(heading)),
    ...predictionsOf(result).flatMap((predictions) => wrapped(predictionText(predictions), width)),
    ...(control === undefined ? [] : wrapped(control, width)),
    ...(discards === undefined ? [] : wrapped(`${discards}.`, width)),
    ...warningsOf(result, report).flatMap((warning) =>
      wrapped(`Warning: ${warning}.`, width).map((line) => paint.yellow(line)),
    ),
    ...(hidden > 0
      ? [paint.dim(`${countOf(hidden, 'more cell is', 'more cells are')} in the result and its report.`)]
      : []),
  ];
  return lines.join('\n');
}

/** The headline, except that of a run that wrote nothing: the table below shows what it did. */
export function spokenHeadline(report: ReportCells): string | undefined {
  const { headline, isAnswer } = answerOf(report);
  const wasCounted = report.cells.some(({ figures }) => figures !== undefined);
  return wasCounted && !isAnswer ? undefined : headline;
}

/**
 * Verdicts are whole, however long the names of cells; the operations around a difference keep a
 * line each.
 */
function parityLines(result: ResultRecord, width: number): readonly string[] {
  const { summary, exceptions, differences } = parityTexts(result);
  if (summary === undefined) return [];
  return [
    ...wrapped(`Parity: ${summary}.`, width),
    ...exceptions.flatMap((text) => wrapped(text, width - 2).map((line) => `  ${line}`)),
    ...differences.flatMap(({ verdict, details }) => [
      ...wrapped(verdict, width),
      ...details.map((line) => shortened(`  ${line}`, width)),
    ]),
  ];
}

/**
 * All setups where they fit on a screen or two, otherwise the first. What QEMU did is in its
 * verdicts, not in the table.
 */
function shownCells({ cells, setups }: ReportCells, all: boolean): readonly ReportCell[] {
  const [first] = setups;
  const own = cells.filter(({ setup, record }) => setup === first || record.cell.engine !== 'qemu');
  if (own.length <= LINES_MAX) return own;
  const inFirst = own.filter(({ setup }) => setup === first);
  return all || inFirst.length <= LINES_MAX ? inFirst : tellingCells(inFirst);
}

/** A cell without clusters is in several setups, and is one. */
function recordCount(cells: readonly ReportCell[]): number {
  return new Set(cells.map(({ record }) => record)).size;
}

/** The modes that the question is about; all cells if the result has none of them. */
function tellingCells(cells: readonly ReportCell[]): readonly ReportCell[] {
  const telling = cells.filter(({ cache }) => TELLING_MODES.includes(cache));
  return telling.length > 0 ? telling : cells;
}

/**
 * Cells groupedText by cache mode, setup and workload; what a line shares with the one above is left
 * blank. A column that says nothing of any cell is left out, and workloads whose names do not fit
 * next to their figures are above them.
 */
function tableLines(
  cells: readonly ReportCell[],
  width: number,
  faint: (text: string) => string,
  strong: (text: string) => string,
): string[] {
  const columns = [...CELL_COLUMNS, ...READ_COLUMNS].filter(
    ({ title, numeric, text }) =>
      title !== 'Cache' && (!numeric || cells.some((cell) => !SAYS_NOTHING.has(text(cell)))),
  );
  const lines: string[] = [];
  const texts = cells.map((cell) => columns.map((column) => column.text(cell)));
  const rows = [columns.map(({ title }) => title), ...texts];
  const widths = columns.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const others = widths.slice(1).reduce((sum, each) => sum + each + GAP.length, 0);
  const hasOwnLine = (widths[0] ?? 0) > width - others;
  if (hasOwnLine) widths[0] = 0;
  const line = (row: readonly string[]): string =>
    row
      .map((text, column) => {
        const size = widths[column] ?? 0;
        return columns[column]?.numeric === true ? text.padStart(size) : shortened(text, size).padEnd(size);
      })
      .join(GAP)
      .trimEnd();
  const [, ...titles] = columns.map(({ title }) => title);
  const headingOf = ({ cache, setup }: ReportCell): string =>
    shortened(`cache=${cache}${setup === '' ? '' : ` · ${setup}`}`, width);
  for (const [heading, group] of Map.groupBy(cells, headingOf)) {
    lines.push(strong(heading), faint(line(hasOwnLine ? ['', ...titles] : ['Workload', ...titles])));
    let above: string | undefined;
    for (const cell of group) {
      const [, ...rest] = columns.map((column) => column.text(cell));
      const name = cell.workload === above ? '' : cell.workload;
      if (hasOwnLine && name !== '') lines.push(shortened(name, width));
      lines.push(line([hasOwnLine ? '' : name, ...rest]));
      above = cell.workload;
    }
    lines.push('');
  }
  return lines;
}

/** What opening cost where images had not been closed. */
function openingLines(result: ResultRecord, width: number, faint: (text: string) => string): string[] {
  const openings = openingsOf(result);
  if (openings.length === 0) return [];
  const rows = [OPENING_COLUMNS, ...openings.map(openingTexts)];
  const [head = '', ...rest] = columnLines(rows, { width, texts: 2, fit: shortened });
  return [faint(head), ...rest, ''];
}

/** What reached the devices below the file systems that were made. */
function belowLines(result: ResultRecord, width: number, faint: (text: string) => string): string[] {
  const { columns, rows } = belowTable(result);
  if (rows.length === 0) return [];
  const [head = '', ...rest] = columnLines([columns, ...rows], { width, texts: 3, fit: shortened });
  return [faint(head), ...rest, ...wrapped(BELOW_NOTE, width), ''];
}

/** How well replays kept the times of their traces, a line a cell, and what was verified. */
function replayLines(result: ResultRecord, width: number, faint: (text: string) => string): string[] {
  const rows = fidelityRows(result, TERMINAL_FIDELITY_COLUMNS);
  const titles = TERMINAL_FIDELITY_COLUMNS.map(({ title }) => title);
  // What distinguishes cells of one trace is at the end of their names.
  const [head = '', ...lines] = columnLines([titles, ...rows], { width, texts: 1, fit: endOf });
  const texts = [fidelityText(result), verificationText(result)].filter((text) => text !== undefined);
  return [
    ...(lines.length === 0 ? [] : [faint(head), ...lines]),
    ...texts.flatMap((text) => wrapped(text, width)),
  ];
}

/**
 * Rows in columns, the first `texts` of them texts and the others numbers; the first column gives
 * way.
 */
function columnLines(
  rows: readonly (readonly string[])[],
  options: {
    readonly width: number;
    readonly texts: number;
    /** Cuts a text to a width. */
    readonly fit: (text: string, width: number) => string;
  },
): string[] {
  const { width, texts, fit } = options;
  const columns = rows[0] ?? [];
  const widths = columns.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const others = widths.slice(1).reduce((sum, each) => sum + each + GAP.length, 0);
  widths[0] = Math.min(widths[0] ?? 0, width - others);
  return rows.map((row) =>
    row
      .map((text, column) => {
        const size = widths[column] ?? 0;
        return column < texts ? fit(text, size).padEnd(size) : text.padStart(size);
      })
      .join(GAP)
      .trimEnd(),
  );
}

function remarkLines(cells: readonly ReportCell[]): string[] {
  const remarked = Map.groupBy(cells, ({ record }) => remarksOf(record));
  return [...remarked]
    .filter(([remark]) => remark !== '')
    .map(([remark, group]) => `${countOf(group.length, 'cell')}: ${remark}`);
}

const HEADING_WIDTH = 15;

function endOf(text: string, width: number): string {
  return text.length <= width ? text : ELLIPSIS + text.slice(text.length - width + 1);
}

function same(text: string): string {
  return text;
}
