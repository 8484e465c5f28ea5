/** A study's answer for a terminal and as Markdown. */

import { escapeMarkdown, markdownRows } from '../core/markdown.ts';
import { countOf } from '../core/number-text.ts';
import { aligned, wrapped } from '../core/text-lines.ts';
import { withVisibleText } from '../core/visible-text.ts';
import type { Sentence } from './answer.ts';
import { pivotOf, type Pivot } from './pivot.ts';
import type { Study } from './schema.ts';
import type { StudyTable } from './table.ts';

export interface StudyTextOptions {
  readonly paint: Readonly<Record<'bold' | 'dim' | 'yellow', (text: string) => string>>;
  /** Columns. */
  readonly width: number;
  /** Every sentence and the whole table, however wide. */
  readonly all: boolean;
}

const HEADING_WIDTH = 16;
const WIDTH_MAX = 100;
/** Lines of a table that are shown. */
const LINES_MAX = 24;
/** A column of figures gets a bar if the table has room for it. */
const BAR_WIDTH = 10;
const BLOCKS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'] as const;

/**
 * Question, answer and table; lines joined by line feeds. Not all of a long answer is shown: the first
 * sentence about each thing, and of the table what fits a screen. What is left out is counted.
 */
export function studyText(
  study: Study,
  { sentences, table }: { readonly sentences: readonly Sentence[]; readonly table: StudyTable },
  { paint, width: given, all }: StudyTextOptions,
): string {
  const width = Math.min(given, WIDTH_MAX);
  const [headline, ...points] = withVisibleText(sentences);
  const shown = all ? points : firstOfEach(points);
  const pivot = withVisibleText(pivotOf(study, table));
  const { lines, hidden } = tableLines(pivot, { width, all }, paint.dim);
  const left = [
    ...(shown.length < points.length ? [countOf(points.length - shown.length, 'sentence')] : []),
    ...hidden,
  ];
  return [
    ...wrapped(study.question, width).map(paint.bold),
    '',
    ...(headline === undefined ? [NO_ANSWER] : wrapped(headline.text, width)),
    ...(shown.length === 0 ? [] : ['']),
    ...shown.flatMap(({ about, text }) => wrapped(text, width, about, HEADING_WIDTH)),
    '',
    ...lines,
    ...(left.length === 0
      ? []
      : wrapped(`Not shown: ${left.join(', ')}; --all shows them.`, width).map(paint.dim)),
    '',
    ...skippedTexts(table).flatMap((text) => wrapped(text, width).map(paint.yellow)),
  ].join('\n');
}

function firstOfEach(points: readonly Sentence[]): readonly Sentence[] {
  return points.filter(({ about }, index) => points.findIndex((each) => each.about === about) === index);
}

const NO_ANSWER = 'No cells of this study were counted that could be compared.';

/** What a document begins with, by which a file is recognised. */
export const STUDY_DOCUMENT_HEAD = '<!-- answer of a study -->';

/**
 * A document of its own: question, answer, picture, table, and the command.
 *
 * @param picture path of the chart, if there is one.
 */
export function studyDocument(
  study: Study,
  answered: { readonly sentences: readonly Sentence[]; readonly table: StudyTable },
  { picture, command }: { readonly picture: string | undefined; readonly command: string },
): string {
  return [
    STUDY_DOCUMENT_HEAD,
    '',
    `# ${escapeMarkdown(study.question)}`,
    '',
    escapeMarkdown(study.description),
    '',
    ...(picture === undefined ? [] : [`![${escapeMarkdown(study.chart.title)}](${picture})`, '']),
    answerMarkdown(answered.sentences),
    tableMarkdown(study, answered.table),
    '```sh',
    command,
    '```',
    '',
  ].join('\n');
}

/** The sentences; the first is the headline. */
export function answerMarkdown(sentences: readonly Sentence[]): string {
  const [headline, ...points] = withVisibleText(sentences);
  return [
    `**${escapeMarkdown(headline?.text ?? NO_ANSWER)}**`,
    '',
    ...points.map(({ about, text }) => `- _${escapeMarkdown(about)}_: ${escapeMarkdown(text)}`),
    ...(points.length === 0 ? [] : ['']),
  ].join('\n');
}

/** Every cell, and what was left out. */
export function tableMarkdown(study: Study, table: StudyTable): string {
  const { caption, head, lines } = withVisibleText(pivotOf(study, table));
  return [
    ...(caption === undefined ? [] : [`${escapeMarkdown(caption)}:`, '']),
    ...markdownRows(
      head.map(escapeMarkdown),
      lines.map(({ names, texts }) => [...names, ...texts]),
    ),
    ...skippedTexts(table).flatMap((text) => ['', escapeMarkdown(text)]),
    '',
  ].join('\n');
}

/** One line for each reason. */
function skippedTexts({ skipped }: StudyTable): readonly string[] {
  return [...Map.groupBy(withVisibleText(skipped), ({ reason }) => reason)].map(([reason, cells]) => {
    const [first] = cells;
    const others = cells.length > 1 ? ` and ${String(cells.length - 1)} more` : '';
    return `Left out: ${first?.cell ?? ''}${others}: ${reason}.`;
  });
}

function tableLines(
  { caption, head, names, lines: every }: Pivot,
  { width, all }: Pick<StudyTextOptions, 'width' | 'all'>,
  faint: (text: string) => string,
): { readonly lines: readonly string[]; readonly hidden: readonly string[] } {
  const lines = every.slice(0, all ? undefined : LINES_MAX);
  let above: readonly string[] = [];
  const rows = lines.map(({ names: own, texts }) => {
    // What a line shares with the one above is left blank, from the left.
    const isSame = own.findIndex((text, index) => text !== above[index]);
    const shown = own.map((text, index) => (isSame < 0 || index < isSame ? '' : text));
    above = own;
    return [...shown, ...texts];
  });
  let columns = head.length;
  let [first = '', ...rest] = alignedTable([head, ...rows], { columns, names });
  while (!all && columns > names + 1 && Math.max(...[first, ...rest].map((line) => line.length)) > width) {
    columns--;
    [first = '', ...rest] = alignedTable([head, ...rows], { columns, names });
  }
  const longest = Math.max(first.length, ...rest.map((line) => line.length));
  const bars = barsOf(lines);
  const hasRoom = bars !== undefined && longest + 2 + BAR_WIDTH <= width;
  return {
    lines: [
      ...(caption === undefined ? [] : [faint(caption)]),
      faint(first),
      ...rest.map((line, index) =>
        hasRoom ? `${line.padEnd(longest)}  ${bars[index] ?? ''}`.trimEnd() : line,
      ),
    ],
    hidden: [
      ...(lines.length < every.length ? [countOf(every.length - lines.length, 'line')] : []),
      ...(columns < head.length
        ? [`${countOf(head.length - columns, 'column')} (${[...new Set(head.slice(columns))].join(', ')})`]
        : []),
    ],
  };
}

function alignedTable(
  rows: readonly (readonly string[])[],
  { columns, names }: { readonly columns: number; readonly names: number },
): readonly string[] {
  const numeric = Array.from({ length: columns - names }, (_, index) => names + index);
  return aligned(
    rows.map((row) => row.slice(0, columns)),
    { numeric },
  );
}

/** A bar for each line, if each has one value of the first figure. */
function barsOf(lines: Pivot['lines']): readonly string[] | undefined {
  const values = lines.map(({ values: own }) => (own.length === 1 ? (own[0] ?? 0) : undefined));
  const known = values.filter((value) => value !== undefined);
  const most = Math.max(...known);
  if (known.length < values.length || lines.length < 2 || most <= 0) return undefined;
  return known.map((value) => {
    const eighths = Math.round((value / most) * BAR_WIDTH * 8);
    return '█'.repeat(Math.floor(eighths / 8)) + (BLOCKS[eighths % 8] ?? '');
  });
}
