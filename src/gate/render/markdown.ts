/**
 * The verdict as Markdown, for the comment of a pull request or the summary of a job.
 *
 * Invariant: below the limit of a comment; what is left out is counted.
 */

import { boundedMarkdown, escapeMarkdown, markdownRows } from '../../core/markdown.ts';
import { countOf } from '../../core/number-text.ts';
import type { Finding, GateRecord } from '../record.ts';
import { FINDING_TITLES } from './terminal.ts';

/** Ends with a line feed. */
export function gateMarkdown(record: GateRecord): string {
  const { passed, summary, problems, notes, engineNotes, acceptCommand } = record;
  return boundedMarkdown([
    `## ${passed ? '✅ qcow2-bench gate passed' : '❌ qcow2-bench gate failed'}`,
    '',
    `${escapeMarkdown(summary)}.`,
    '',
    ...engineNotes.flatMap((note) => [`${escapeMarkdown(note)}.`, '']),
    ...problems.flatMap((problem) => findingLines(problem, { open: problems.length === 1 })),
    ...notes.flatMap((note) => findingLines(note, { open: false })),
    ...(problems.length + notes.length === 0
      ? []
      : [
          passed ? 'To accept the changes:' : 'If this change is intended, make this result the baseline:',
          '',
          codeBlock(acceptCommand),
        ]),
  ]);
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
