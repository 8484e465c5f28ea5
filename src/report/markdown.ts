/**
 * A result as Markdown tables, for a README: a line a workload, a column a variant, one table for
 * each setup in a cache mode.
 *
 * Invariant: every cell of the cache mode is in a table. Only `boundedTables` leaves out rows, and counts
 * them.
 */

import { escapeMarkdown, MARKDOWN_BYTES_MAX, markdownRows } from '../core/markdown.ts';
import { countOf } from '../core/number-text.ts';
import { withVisibleText } from '../core/visible-text.ts';
import type { ResultRecord } from '../result/schema.ts';
import type { CacheMode } from '../result/vocabulary.ts';
import { bytesText, rateText } from './numbers.ts';
import { cellAt, reportCells, type ReportCell, type ReportCells } from './report-cells.ts';

export interface MarkdownOptions {
  readonly cache: CacheMode;
}

/** Syncs and bytes written per guest write; ends with a line feed. */
export function markdownTables(result: ResultRecord, options: MarkdownOptions): string {
  const report = reportCells(withVisibleText(result));
  const setups = report.setups.filter((setup) =>
    report.cells.some((cell) => cell.setup === setup && cell.cache === options.cache),
  );
  return setups.map((setup) => tableOf(report, options, setup)).join('\n');
}

/**
 * Tables as one text of at most `bytesMax`, under the limit of a comment on a pull request. Rows that
 * do not fit are counted, with where they are.
 */
export function boundedTables(tables: readonly string[], bytesMax = MARKDOWN_BYTES_MAX): string {
  const lines = tables.join('\n').split('\n');
  let bytes = NOTE_BYTES;
  const fitting = lines.findIndex((line) => (bytes += Buffer.byteLength(line) + 1) > bytesMax);
  if (fitting < 0) return lines.join('\n');
  const isRow = (line: string, index: number): boolean =>
    line.startsWith('| ') && !line.startsWith('| ---') && lines[index + 1]?.startsWith('| ---') !== true;
  const rows = lines.map(isRow).slice(fitting).filter(Boolean).length;
  // A heading whose rows are all left out says nothing.
  const kept = lines.slice(0, fitting);
  while (kept.length > 0 && !isRow(kept.at(-1) ?? '', kept.length - 1)) kept.pop();
  return `${[...kept, '', `… ${countOf(rows, 'row')} left out: see the CSV table of the result, or its page.`].join('\n')}\n`;
}

/** For the line that counts what was left out. */
const NOTE_BYTES = 120;

/** Lines and columns without a cell are left out. */
function tableOf(report: ReportCells, { cache }: MarkdownOptions, setup: string): string {
  const cells = report.cells.filter((cell) => cell.setup === setup && cell.cache === cache);
  const variants = report.variants.filter((variant) => cells.some((cell) => cell.variant === variant));
  const workloads = report.workloads.filter((workload) => cells.some((cell) => cell.workload === workload));
  const head = [`Per guest write, cache=${cache}${setup === '' ? '' : ` · ${setup}`}`, ...variants];
  const lines = workloads.map((workload) => [
    workload,
    ...variants.map((variant) => figureText(cellAt(report, { workload, variant, cache }, setup))),
  ]);
  return markdownRows(head.map(escapeMarkdown), lines)
    .map((line) => `${line}\n`)
    .join('');
}

function figureText(cell: ReportCell | undefined): string {
  const { syncsPerWrite, bytesPerWrite } = cell?.figures ?? {};
  if (syncsPerWrite === undefined || syncsPerWrite === null) return '–';
  return `${rateText(syncsPerWrite)} syncs, ${bytesText(bytesPerWrite)} B`;
}
