/**
 * The gate's verdict as text for a terminal or a CI log: what fails comes last, next to the verdict
 * line, where a reader of a log looks first.
 */

import { isWorse, type CellChange, type Counted, type LeafChange } from '../compare/cell-counts.ts';
import { cellName } from '../result/cell.ts';
import type { GateVerdict } from './compare.ts';

export interface VerdictTextOptions {
  /** What the reader can run to make the result the new baseline; named where it would help. */
  readonly acceptHint?: string;
  /** Colours the words; without it the text is plain. */
  readonly paint?: { readonly bad: (text: string) => string; readonly good: (text: string) => string };
  /** Cells listed of each class before the rest is only counted; 20 by default. */
  readonly cellsMax?: number;
}

const DEFAULT_CELLS_MAX = 20;

/** Lines joined by line feeds, without one at the end. */
export function verdictText(verdict: GateVerdict, options: VerdictTextOptions = {}): string {
  const { bad, good } = options.paint ?? { bad: same, good: same };
  const max = options.cellsMax ?? DEFAULT_CELLS_MAX;
  const section = (title: string, cells: readonly string[]): string[] => {
    const rest = cells.length - max;
    const more = rest > 0 ? [`  … and ${String(rest)} more`, ''] : [];
    return cells
      .slice(0, max)
      .flatMap((lines) => [`${title}  ${lines}`, ''])
      .concat(more);
  };
  return [
    ...section('NEW', verdict.added.map(cellName)),
    ...section(good('BETTER'), verdict.improvements.map(changeLines)),
    ...section(
      bad('MISSING'),
      verdict.missing.map(({ cell, reason }) => `${cellName(cell)}\n    ${reason}`),
    ),
    ...section(bad('OTHER WORKLOAD'), verdict.workloadChanges.map(workloadLines)),
    ...section(bad('WORSE'), verdict.regressions.map(changeLines)),
    summaryLine(verdict, { bad, good }),
    ...hintLines(verdict, options.acceptHint),
  ].join('\n');
}

function summaryLine(
  verdict: GateVerdict,
  paint: { readonly bad: (text: string) => string; readonly good: (text: string) => string },
): string {
  const facts = [
    [verdict.regressions.length, 'worse'],
    [verdict.workloadChanges.length, 'with another workload'],
    [verdict.missing.length, 'missing'],
    [verdict.improvements.length, 'better'],
    [verdict.added.length, 'new'],
    [verdict.equal, 'as in the baseline'],
  ] as const;
  const text = facts.filter(([cells]) => cells > 0).map(([cells, what]) => `${grouped(cells)} ${what}`);
  const word = verdict.passed ? paint.good('gate passed') : paint.bad('gate failed');
  return `${word}: ${text.length === 0 ? 'nothing to compare' : `cells ${text.join(', ')}`}`;
}

function hintLines(verdict: GateVerdict, hint: string | undefined): string[] {
  const { regressions, workloadChanges, missing, improvements, added } = verdict;
  const changed =
    regressions.length + workloadChanges.length + missing.length + improvements.length + added.length;
  if (hint === undefined || changed === 0) return [];
  const when = verdict.passed ? 'To accept the changes' : 'If this change is intended';
  return [`${when}, make this result the baseline: ${hint}`];
}

function changeLines({ cell, changes }: CellChange): string {
  const rows = changes.map((change) => [
    change.phase,
    ...describe(change.counted),
    grouped(change.before),
    '→',
    grouped(change.after),
    difference(change),
    isWorse(change) ? 'worse' : change.counted.kind === 'elided' ? '' : 'better',
  ]);
  const numeric = [4, 6];
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) => {
    const cells = row.map((text, column) => {
      const width = widths[column] ?? 0;
      return numeric.includes(column) ? text.padStart(width) : text.padEnd(width);
    });
    return `    ${cells.join('  ')}`.trimEnd();
  });
  return [cellName(cell), ...lines].join('\n');
}

/** Operation, purpose or cause, unit. */
function describe(counted: Counted): [string, string, string] {
  switch (counted.kind) {
    case 'syncs':
      return ['syncs', counted.cause, ''];
    case 'elided':
      return ['elided flushes', '', ''];
    case 'writes':
    case 'reads':
    case 'truncates':
      return [counted.kind, counted.purpose, counted.unit];
    case 'zeroRanges':
      return ['zero-ranges', counted.purpose, counted.unit];
    case 'punchHoles':
      return ['punch-holes', counted.purpose, counted.unit];
  }
}

function workloadLines({ cell, changes }: GateVerdict['workloadChanges'][number]): string {
  const lines = changes.map(
    ({ field, before, after }) => `    guest ${field}: ${grouped(before)} → ${grouped(after)}`,
  );
  return [cellName(cell), ...lines].join('\n');
}

function difference({ before, after }: LeafChange): string {
  const sign = after > before ? '+' : '−';
  const percent = before === 0 ? '' : ` (${sign}${String(percentOf(after - before, before))} %)`;
  return `${sign}${grouped(Math.abs(after - before))}${percent}`;
}

function percentOf(part: number, whole: number): number {
  return Number(((Math.abs(part) / whole) * 100).toPrecision(3));
}

function grouped(value: number): string {
  return value.toLocaleString('en-US');
}

function same(text: string): string {
  return text;
}
