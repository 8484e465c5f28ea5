/** `compare`: what differs between results, by cause; or between two host logs. */

import { compareHostLogs } from '../../compare/host-logs.ts';
import { compareSides, resultSide, type Side } from '../../compare/compare-results.ts';
import { splitBy } from '../../compare/matching.ts';
import { visibleText } from '../../core/visible-text.ts';
import { comparisonMarkdown } from '../../report/comparison/comparison-markdown.ts';
import { comparisonPage } from '../../report/comparison/comparison-page.ts';
import { comparisonText } from '../../report/comparison/comparison-text.ts';
import { logComparisonText } from '../../report/comparison/log-text.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { coordinateNames, type CoordinateName } from '../../result/coordinates.ts';
import { readCompared, type ComparedFile } from '../files/compared-files.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { isStandardOutput, makes, OVERWRITE_OPTIONS, reads } from '../options/file-uses.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { choice, text } from '../options/option-values.ts';
import { EXIT } from '../terminal/exit-code.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { UsageError } from '../terminal/usage-error.ts';

export const compareCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('result', {
        type: 'string',
        array: true,
        demandOption: true,
        describe: 'Results or baselines, each compared with the first; or two host logs',
      })
      .options(
        inGroup('Compare:', {
          by: optional(
            'Compare the cells of one result with each other: the coordinate that distinguishes them, such as engine',
            choice(
              'by',
              coordinateNames(() => true),
            ),
          ),
          'ignore-reads': flag('Host logs: leave out reads'),
          all: flag('List every changed cell'),
          markdown: optional('Also write the comparison as Markdown to this file', text('markdown')),
          html: optional('Also write the comparison as a page to this file', text('html')),
          json: flag('Print the comparison as JSON'),
          ...OVERWRITE_OPTIONS,
        }),
      )
      .epilogue(
        examples([
          ['compare before.json after.json', 'counts by cause, and times'],
          ['compare result.json --by engine', 'one result: builtin against qemu'],
          ['compare a.jsonl b.jsonl', 'host logs: the first operation that differs'],
        ]),
      ),

  files: ({ result, markdown, html }) => [
    ...reads('RESULT', ...result),
    ...makes('comparison markdown', '--markdown', markdown),
    ...makes('page', '--html', html),
  ],

  run: async (args, terminal) => {
    const { result: paths, by } = args;
    const files = paths.map(readCompared);
    const logs = files.filter((file) => file.kind === 'host log');
    if (logs.length > 0) return compareLogs(files, logs, args, terminal);
    if (args['ignore-reads']) throw new UsageError('--ignore-reads applies to host logs, not to results');
    const sides = by === undefined ? severalSides(files) : splitSides(files, by);
    return compareResults(sides, args, terminal);
  },
});

interface CompareArgs {
  readonly by: CoordinateName | undefined;
  readonly 'ignore-reads': boolean;
  readonly all: boolean;
  readonly markdown: string | undefined;
  readonly html: string | undefined;
  readonly json: boolean;
}

function compareResults(
  sides: readonly Side[],
  { all, markdown, html, json }: CompareArgs,
  terminal: Terminal,
): number {
  const comparisons = compareSides(sides);
  if (markdown !== undefined) replaceFile(markdown, comparisonMarkdown(comparisons), { durable: false });
  if (html !== undefined) replaceFile(html, comparisonPage(comparisons, sides), { durable: false });
  const { paint, width } = terminal;
  const answer = json
    ? JSON.stringify(comparisons, null, 2)
    : comparisonText(comparisons, { paint, width, all });
  if (isStandardOutput(markdown) || isStandardOutput(html)) terminal.warn(answer);
  else terminal.print(answer);
  return EXIT.good;
}

function compareLogs(
  files: readonly ComparedFile[],
  logs: readonly Extract<ComparedFile, { readonly kind: 'host log' }>[],
  args: CompareArgs,
  terminal: Terminal,
): number {
  const [before, after] = logs;
  const other = files.find(({ kind }) => kind !== 'host log');
  if (other !== undefined) {
    throw new UsageError(`RESULT: ${other.path} is a ${other.kind}; host logs are compared with host logs`);
  }
  if (before === undefined || after === undefined || logs.length > 2) {
    throw new UsageError(`RESULT: needs exactly two host logs; these are ${String(logs.length)}`);
  }
  const given = (['by', 'markdown', 'html'] as const).find((name) => args[name] !== undefined);
  if (given !== undefined) {
    throw new UsageError(`--${given} applies to results, not to host logs`);
  }
  const comparison = compareHostLogs(before.lines(), after.lines(), { ignoreReads: args['ignore-reads'] });
  const names = [visibleText(before.path), visibleText(after.path)] as const;
  const { paint } = terminal;
  terminal.print(
    args.json ? JSON.stringify(comparison, null, 2) : logComparisonText(comparison, { names, paint }),
  );
  return EXIT.good;
}

function severalSides(files: readonly ComparedFile[]): readonly Side[] {
  const sides = files.flatMap((file) => (file.kind === 'host log' ? [] : [file.side]));
  if (sides.length > 1) return sides;
  throw new UsageError(
    'RESULT: needs at least two files; with --by the cells of one result are compared with each other',
  );
}

/** The cells of one result, by their value of a coordinate. */
function splitSides(files: readonly ComparedFile[], by: CoordinateName): readonly Side[] {
  const [file, another] = files;
  if (file?.kind !== 'result' || another !== undefined) throw new UsageError('--by needs exactly one result');
  const { environment, records } = file.side;
  if (environment === undefined) throw new Error('internal error: a result has an environment');
  const parts = splitBy(records, by);
  if (parts.length < 2) {
    const [only] = parts;
    throw new UsageError(
      `--by ${by}: all cells of ${file.path} have the same value${only === undefined ? '' : `, ${only.value}`}`,
    );
  }
  return parts.map(({ value, items }) => resultSide(`${by} ${value}`, { environment, cells: items }));
}
