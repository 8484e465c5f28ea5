/**
 * The verdict as Markdown, for the comment of a pull request or the summary of a job.
 *
 * Invariant: below the limit of a comment; what is left out is counted.
 */

import { boundedMarkdown, escapeMarkdown, markdownRows } from '../../core/markdown.ts';
import { countOf } from '../../core/number-text.ts';
import type { Finding, GateRecord, TimeFinding } from '../record.ts';
import { FINDING_TITLES } from './terminal.ts';

/** Ends with a line feed. */
export function gateMarkdown(record: GateRecord): string {
  const { passed, summary, problems, notes, engineNotes, times, timeFails, acceptCommand } = record;
  return boundedMarkdown([
    `## ${passed ? '✅ qcow2-bench gate passed' : '❌ qcow2-bench gate failed'}`,
    '',
    `${escapeMarkdown(summary)}.`,
    '',
    ...engineNotes.flatMap((note) => [`${escapeMarkdown(note)}.`, '']),
    ...problems.flatMap((problem) => findingLines(problem, { open: problems.length === 1 })),
    ...notes.flatMap((note) => findingLines(note, { open: false })),
    ...timeLines(times, timeFails),
    ...(problems.length + notes.length === 0 || acceptCommand === undefined
      ? []
      : [
          passed ? 'To accept the changes:' : 'If this change is intended, make this result the baseline:',
          '',
          codeBlock(acceptCommand),
        ]),
  ]);
}

/** All of them: what is inconclusive is never left out as if it had passed. */
function timeLines(times: readonly TimeFinding[], timeFails: boolean): readonly string[] {
  if (times.length === 0) return [];
  const order = ['regression', 'improvement', 'inconclusive', 'no change'];
  const sorted = times.toSorted((a, b) => order.indexOf(a.outcome) - order.indexOf(b.outcome));
  return [
    `**Times**${timeFails ? '' : ' (advisory)'}`,
    '',
    ...markdownRows(
      ['Cell', 'Verdict', 'Head ÷ base'],
      sorted.map(({ name, outcome, text }) => [name, outcome, text]),
    ),
    '',
  ];
}

function findingLines(
  { kind, sentence, details, cells, firstRequest, command }: Finding,
  { open }: { readonly open: boolean },
): readonly string[] {
  const count = countOf(cells.length, 'cell');
  return [
    `**${FINDING_TITLES[kind]}** ${escapeMarkdown(sentence)}`,
    ...details.map((detail) => `- with ${escapeMarkdown(detail)}`),
    ...(firstRequest === undefined ? [] : [`- ${escapeMarkdown(firstRequest)}`]),
    '',
    `<details${open ? ' open' : ''}><summary>${count}</summary>`,
    '',
    ...markdownRows(
      ['Cell', 'Baseline → result'],
      cells.map(({ name, text }) => [name, text]),
    ),
    '',
    ...(command === undefined ? [] : ['The operations of the first one:', '', codeBlock(command), '']),
    '</details>',
    '',
  ];
}

/** A fence longer than any in the text: a name may contain backquotes. */
function codeBlock(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  return `${fence}sh\n${text}\n${fence}`;
}
