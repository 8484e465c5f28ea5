/**
 * A result as a Markdown table, for a README: a line a workload, a column a variant, in one cache
 * mode.
 */

import { withVisibleText } from '../core/visible-text.ts';
import type { ResultRecord } from '../result/schema.ts';
import type { CacheMode } from '../result/vocabulary.ts';
import { bytesText, rateText } from './numbers.ts';
import { cellAt, reportCells, type ReportCell } from './report-cells.ts';

export interface MarkdownOptions {
  readonly cache: CacheMode;
}

/** Syncs and bytes written per guest write, of the result's main setup; ends with a line feed. */
export function markdownTable(result: ResultRecord, options: MarkdownOptions): string {
  const report = reportCells(withVisibleText(result));
  const { cache } = options;
  const head = [`Per guest write, cache=${cache}`, ...report.variants];
  const lines = report.workloads.map((workload) => [
    workload,
    ...report.variants.map((variant) => figureText(cellAt(report, { workload, variant, cache }))),
  ]);
  const rule = head.map((_, column) => (column === 0 ? '---' : '---:'));
  return [head, rule, ...lines].map((cells) => `| ${cells.map(escaped).join(' | ')} |\n`).join('');
}

function figureText(cell: ReportCell | undefined): string {
  const { syncsPerWrite, bytesPerWrite } = cell?.figures ?? {};
  if (syncsPerWrite === undefined || syncsPerWrite === null) return '–';
  return `${rateText(syncsPerWrite)} syncs, ${bytesText(bytesPerWrite)} B`;
}

/** A name may hold what Markdown takes for a cell border, a line or markup. */
function escaped(text: string): string {
  return text.replaceAll(/[\\|`*_<>[\]]/g, '\\$&').replaceAll(/\s+/g, ' ');
}
