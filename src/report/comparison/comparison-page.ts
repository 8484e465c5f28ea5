/**
 * Compared results as a page, in the style of the report: one file without network. What changed, by
 * cause, and the times need no script; the ranked cells and their time lines do.
 *
 * Invariant: every text from a result is escaped.
 */

import type { ChangeGroup } from '../../compare/change-groups.ts';
import {
  beforeAfterText,
  cellsText,
  changeText,
  differenceText,
  subjectTitle,
} from '../../compare/change-text.ts';
import type { Side, SideComparison } from '../../compare/compare-results.ts';
import type { TimeComparison } from '../../compare/time-changes.ts';
import { withVisibleText } from '../../core/visible-text.ts';
import { countOf } from '../../core/number-text.ts';
import { COORDINATES } from '../../result/coordinates.ts';
import { CONFIDENCE_TEXT } from '../../result/comparison.ts';
import { escapeHtml, htmlTable } from '../markup.ts';
import { factorText, microsecondsText } from '../numbers.ts';
import { pageShell } from '../page-shell.ts';
import { comparisonData } from './comparison-data.ts';
import {
  comparedNames,
  countsNotes,
  firstText,
  countsSummary,
  KIND_TITLES,
  sideFacts,
  timeCellName,
  timesSummary,
  type NameCell,
} from './comparison-text.ts';

/** Colours of the report: what costs more is warm. */
export const KIND_MARKS = {
  more: '#d55e00',
  'lost-syncs': '#c2709f',
  fewer: '#009e73',
  neutral: 'var(--line)',
} as const;

/**
 * The text of the page.
 *
 * @param sides those that were compared: every other with the first.
 */
export function comparisonPage(given: readonly SideComparison[], sides: readonly Side[]): string {
  const comparisons = withVisibleText(given);
  const body = comparisons.map((comparison, index) => comparisonParts(comparison, index));
  return pageShell({
    body: ['<p id="page-error" role="alert" hidden></p>', ...body],
    data: { 'comparison-data': withVisibleText(comparisonData(sides, given)) },
  });
}

function comparisonParts(comparison: SideComparison, index: number): string {
  const { before, after, counts, times } = comparison;
  const nameOf = comparedNames(comparison);
  const notes = countsNotes(counts, nameOf).map((note) => `<li>${escapeHtml(note)}</li>`);
  const sides = [before, after].map(
    (side, index) =>
      `<dt>${String.fromCharCode(65 + index)}</dt><dd>${escapeHtml(side.name)}<br><span class="sub">${escapeHtml(sideFacts(side))}</span></dd>`,
  );
  const distinct = counts.distinctions.map(
    (one) =>
      `<dt>${escapeHtml(COORDINATES[one.name].title)}</dt><dd>${escapeHtml(`${one.before} → ${one.after}`)}</dd>`,
  );
  return [
    '<header class="top">',
    '<p class="kicker">qcow2-bench compare</p>',
    `<h1>${escapeHtml(countsSummary(counts).replace(/^Counts: /, ''))}</h1>`,
    `<dl class="points">${[...sides, ...distinct].join('\n')}</dl>`,
    '</header>',
    '<main>',
    counts.groups.length === 0
      ? ''
      : `<section><h2>What changed, by cause</h2>${counts.groups.map((group) => groupCard(group, counts.compared, nameOf)).join('\n')}</section>`,
    `<div data-comparison="${String(index)}"></div>`,
    notes.length === 0
      ? ''
      : `<section><h2>Not compared</h2><ul class="notes card">${notes.join('\n')}</ul></section>`,
    timesSection(times, nameOf),
    '</main>',
  ].join('\n');
}

function groupCard({ lead, also, cells, first }: ChangeGroup, compared: number, nameOf: NameCell): string {
  const rows = cells.map(({ cell, change: { ops, bytes } }) => [
    nameOf(cell),
    beforeAfterText(ops),
    ops.before === ops.after ? '' : differenceText(ops),
    bytes.before === bytes.after ? '' : beforeAfterText(bytes),
    bytes.before === bytes.after ? '' : differenceText(bytes),
  ]);
  const table = htmlTable({
    caption: subjectTitle(lead.subject),
    columns: [
      { title: 'Cell' },
      { title: 'Operations', numeric: true },
      { title: 'Change', numeric: true },
      { title: 'Bytes', numeric: true },
      { title: 'Change', numeric: true },
    ],
    rows,
  });
  const details = [
    ...also.map((change) => `<li>with ${escapeHtml(changeText(change))}</li>`),
    ...(first === undefined ? [] : [`<li>${escapeHtml(firstText(first))}</li>`]),
  ];
  const count = countOf(cells.length, 'cell');
  return [
    `<div class="card change" style="--mark:${KIND_MARKS[lead.kind]}">`,
    `<h3><span class="kind">${KIND_TITLES[lead.kind]}</span>${escapeHtml(`${changeText(lead)}, ${cellsText(cells.length, compared)}`)}</h3>`,
    details.length === 0 ? '' : `<ul>${details.join('')}</ul>`,
    `<details class="more"${cells.length <= 10 ? ' open' : ''}><summary>${count}</summary><div class="scroll" tabindex="0">${table}</div></details>`,
    '</div>',
  ].join('\n');
}

function timesSection(times: readonly TimeComparison[], nameOf: NameCell): string {
  const summary = timesSummary(times);
  if (summary === undefined) return '';
  const order = ['slower', 'faster', 'inconclusive', 'no change'] as const;
  const rows = times
    .toSorted((a, b) => order.indexOf(a.verdict) - order.indexOf(b.verdict))
    .map((time) => [
      timeCellName(time, nameOf),
      microsecondsText(time.beforeNs),
      microsecondsText(time.afterNs),
      factorText(time.ratio?.estimate ?? time.afterNs / time.beforeNs),
      time.ratio === undefined ? '' : `${factorText(time.ratio.low)} to ${factorText(time.ratio.high)}`,
      time.isExact ? 'exact' : time.cliffsDelta.toFixed(2),
      time.verdict,
    ]);
  const table = htmlTable({
    caption: 'Median time per guest request',
    columns: [
      { title: 'Cell' },
      { title: 'A', numeric: true },
      { title: 'B', numeric: true },
      { title: 'B ÷ A', numeric: true },
      { title: CONFIDENCE_TEXT, numeric: true },
      { title: "Cliff's delta", numeric: true },
      { title: 'Verdict' },
    ],
    rows,
  });
  return [
    `<section><h2>Times</h2><p class="sub">${escapeHtml(summary.replace(/^Times: /, ''))}</p>`,
    `<div class="card scroll" tabindex="0">${table}</div></section>`,
  ].join('\n');
}
