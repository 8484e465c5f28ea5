/**
 * Compared results as Markdown, for a pull request or a job summary.
 *
 * Invariant: at most `MARKDOWN_BYTES_MAX` bytes, under the limit of a comment; what is left out is
 * counted.
 */

import type { ChangeGroup } from '../../compare/change-groups.ts';
import { beforeAfterText, cellsText, changeText, differenceText } from '../../compare/change-text.ts';
import type { SideComparison } from '../../compare/compare-results.ts';
import { boundedMarkdown, escapeMarkdown, markdownRows } from '../../core/markdown.ts';
import { withVisibleText } from '../../core/visible-text.ts';
import { countOf } from '../../core/number-text.ts';
import {
  comparedNames,
  countsNotes,
  firstText,
  countsSummary,
  distinctionsText,
  sideFacts,
  timeCellName,
  timesSummary,
  timeText,
  type NameCell,
} from './comparison-text.ts';

const TITLES = { more: 'More', 'lost-syncs': 'Fewer syncs', fewer: 'Fewer', neutral: 'Moved' } as const;

/** Ends with a line feed. */
export function comparisonMarkdown(given: readonly SideComparison[]): string {
  return boundedMarkdown(['## Comparison', '', ...withVisibleText(given).flatMap(sideSections)]);
}

function sideSections(comparison: SideComparison): readonly string[] {
  const { before, after, counts, times } = comparison;
  const nameOf = comparedNames(comparison);
  const distinct = distinctionsText(counts);
  const timed = timesSummary(times);
  const changed = times.filter(({ verdict }) => verdict === 'slower' || verdict === 'faster');
  return [
    `A: ${escapeMarkdown(before.name)} (${sideFacts(before)})  `,
    `B: ${escapeMarkdown(after.name)} (${sideFacts(after)})`,
    '',
    ...(distinct === undefined ? [] : [escapeMarkdown(distinct), '']),
    `**${escapeMarkdown(countsSummary(counts))}**`,
    '',
    ...counts.groups.flatMap((group) => groupSection(group, counts.compared, nameOf)),
    ...countsNotes(counts, nameOf).map((note) => `- ${escapeMarkdown(note)}`),
    '',
    ...(timed === undefined ? [] : [`**${escapeMarkdown(timed)}**`, '']),
    ...changed.map((time) => `- ${escapeMarkdown(`${timeCellName(time, nameOf)}: ${timeText(time)}`)}`),
    '',
  ];
}

function groupSection(
  { lead, cells, also, first }: ChangeGroup,
  compared: number,
  nameOf: NameCell,
): readonly string[] {
  const rows = cells.map(({ cell, change: { ops, bytes } }) => {
    const [amounts, unit] = ops.before === ops.after ? [bytes, ' B'] : [ops, ''];
    return [nameOf(cell), `${beforeAfterText(amounts)}${unit}`, differenceText(amounts)];
  });
  const summary = countOf(cells.length, 'cell');
  return [
    `- **${TITLES[lead.kind]}** ${escapeMarkdown(`${changeText(lead)}, ${cellsText(cells.length, compared)}`)}`,
    ...also.map((change) => `  - with ${escapeMarkdown(changeText(change))}`),
    ...(first === undefined ? [] : [`  - ${escapeMarkdown(firstText(first))}`]),
    '',
    `<details><summary>${summary}</summary>`,
    '',
    ...markdownRows(['Cell', 'A → B', 'Change'], rows),
    '',
    '</details>',
    '',
  ];
}
