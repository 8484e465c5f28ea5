/** The data of the page of compared results: every compared cell with both sides, ranked. */

import type { CellCounts } from '../../compare/cell-counts.ts';
import type { Side, SideComparison } from '../../compare/compare-results.ts';
import { matchCounted } from '../../compare/matching.ts';
import { namesAmong } from '../../result/cell.ts';
import type { PageComparedCell, PageComparison, PageComparisons, PageRequests } from '../page-format.ts';
import { CostTexts, pageModels, pageRequests } from '../page-requests.ts';

/** @param sides those that were compared: every other with the first. */
export function comparisonData(
  sides: readonly Side[],
  comparisons: readonly SideComparison[],
): PageComparisons {
  const costs = new CostTexts();
  const [first, ...others] = sides;
  const all = comparisons.flatMap((comparison, index): readonly PageComparison[] => {
    const other = others[index];
    if (first === undefined || other === undefined) return [];
    const { before, after } = comparison;
    return [
      { before: before.name, after: after.name, cells: comparedCells(first, other, comparison, costs) },
    ];
  });
  const models = sides.flatMap(({ environment }) => environment?.deviceModels ?? []);
  return { costs: costs.texts, models: pageModels(models), comparisons: all };
}

/** Cells whose guest did something else are not compared. */
function comparedCells(
  first: Side,
  other: Side,
  { counts }: SideComparison,
  costs: CostTexts,
): readonly PageComparedCell[] {
  const { pairs } = matchCounted(first.counted, other.counted, ({ cell }) => cell);
  const keyOf = (cell: object): string => JSON.stringify(cell);
  const changed = new Set([...counts.changed, ...counts.samples].map(({ cell }) => keyOf(cell)));
  const incomparable = new Set(counts.workloadChanges.map(({ cell }) => keyOf(cell)));
  const nameOf = namesAmong(pairs.map(([, { cell }]) => cell));
  return pairs
    .filter(([, { cell }]) => !incomparable.has(keyOf(cell)))
    .map(([before, after]) => ({
      name: nameOf(after.cell),
      isChanged: changed.has(keyOf(after.cell)),
      syncs: perWrite([before, after], syncsOf),
      bytes: perWrite([before, after], writtenBytes),
      before: requestsOf(before, costs),
      after: requestsOf(after, costs),
    }))
    .toSorted((a, b) => Number(b.isChanged) - Number(a.isChanged) || weightOf(b) - weightOf(a));
}

function perWrite(
  sides: readonly [CellCounts, CellCounts],
  pick: (side: CellCounts) => number,
): readonly [number, number] | null {
  const [before, after] = sides;
  const { writes } = after.guest;
  return writes === 0 ? null : [pick(before) / writes, pick(after) / writes];
}

function syncsOf({ counts }: CellCounts): number {
  return sumOf(counts, /^(?:run|close)[.]syncs[.]byCause[.]/);
}

function writtenBytes({ counts }: CellCounts): number {
  return sumOf(counts, /^(?:run|close)[.]writes[.]byPurpose[.].*[.]bytes$/);
}

function sumOf(counts: CellCounts['counts'], leaf: RegExp): number {
  return Object.entries(counts).reduce((sum, [name, count]) => (leaf.test(name) ? sum + count : sum), 0);
}

/** How much a cell changed: syncs before bytes, each as a factor in either direction. */
function weightOf({ syncs, bytes }: PageComparedCell): number {
  const factor = (pair: readonly [number, number] | null): number =>
    pair === null ? 0 : Math.abs(Math.log((pair[1] + 1e-9) / (pair[0] + 1e-9)));
  return factor(syncs) * 1000 + factor(bytes);
}

function requestsOf(side: CellCounts, costs: CostTexts): PageRequests | null {
  const { cell, guest, counts, requests } = side;
  if (requests === undefined) return null;
  const fill = counts['run.writes.byPurpose.cow.bytes'] ?? 0;
  return pageRequests(requests, costs, {
    cell,
    dataBytes: guest.writes === 0 ? 0 : guest.writeBytes / guest.writes,
    fillBytes: guest.allocatingWrites === 0 ? 0 : fill / guest.allocatingWrites,
  });
}
