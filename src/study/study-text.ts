/** A study's answer for a terminal and as Markdown. */

import { escapeMarkdown, markdownRows } from '../core/markdown.ts';
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
}

const HEADING_WIDTH = 16;
const WIDTH_MAX = 100;
/** Lines of a table that a terminal shows; the files have all. */
const LINES_MAX = 40;
/** A column of figures gets a bar if the table has room for it. */
const BAR_WIDTH = 10;
const BLOCKS = ['', '▏', '▎', '▍', '▌', '▋', '▊', '▉'] as const;

/** Question, answer and table; lines joined by line feeds. */
export function studyText(
  study: Study,
  { sentences, table }: { readonly sentences: readonly Sentence[]; readonly table: StudyTable },
  { paint, width: given }: StudyTextOptions,
): string {
  const width = Math.min(given, WIDTH_MAX);
  const [headline, ...points] = withVisibleText(sentences);
  return [
    ...wrapped(study.question, width).map(paint.bold),
    '',
    ...(headline === undefined ? [NO_ANSWER] : wrapped(headline.text, width)),
    ...(points.length === 0 ? [] : ['']),
    ...points.flatMap(({ about, text }) => wrapped(text, width, about, HEADING_WIDTH)),
    '',
    ...tableLines(withVisibleText(pivotOf(study, table)), width, paint.dim),
    ...skippedTexts(table).flatMap((text) => wrapped(text, width).map(paint.yellow)),
  ].join('\n');
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
  { caption, head, names, lines }: Pivot,
  width: number,
  faint: (text: string) => string,
): readonly string[] {
  let above: readonly string[] = [];
  const rows = lines.slice(0, LINES_MAX).map(({ names: own, texts }) => {
    // What a line shares with the one above is left blank, from the left.
    const isSame = own.findIndex((text, index) => text !== above[index]);
    const shown = own.map((text, index) => (isSame < 0 || index < isSame ? '' : text));
    above = own;
    return [...shown, ...texts];
  });
  const numeric = head.map((_, index) => index).filter((index) => index >= names);
  const bars = barsOf(lines.slice(0, LINES_MAX));
  const [first = '', ...rest] = aligned([head, ...rows], { numeric });
  const columns = Math.max(first.length, ...rest.map((line) => line.length));
  const hasRoom = bars !== undefined && columns + 2 + BAR_WIDTH <= width;
  const hidden = lines.length - LINES_MAX;
  return [
    ...(caption === undefined ? [] : [faint(caption)]),
    faint(first),
    ...rest.map((line, index) =>
      hasRoom ? `${line.padEnd(columns)}  ${bars[index] ?? ''}`.trimEnd() : line,
    ),
    ...(hidden > 0 ? [faint(`… and ${String(hidden)} more lines; --output has all`)] : []),
    '',
  ];
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
