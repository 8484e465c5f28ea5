/**
 * A result as Markdown tables, for a README: a line a workload, a column a variant, one table for
 * each setup in a cache mode.
 *
 * Invariant: every cell of the cache mode is in a table.
 */

import { escapeMarkdown, markdownRows } from '../core/markdown.ts';
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
