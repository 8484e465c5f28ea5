/**
 * `gate`: exact counts against a baseline, within limits. What is new passes; what got worse, or is
 * gone, does not.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { existsSync } from '../../core/host-fs.ts';
import { visibleText, withVisibleText } from '../../core/visible-text.ts';
import { countOf } from '../../core/number-text.ts';
import { acceptBaseline, readBaseline, writeBaseline } from '../../gate/baseline.ts';
import { compareCounts, type GateVerdict } from '../../gate/compare.ts';
import { GateLimits, readGateLimits } from '../../gate/limits.ts';
import { gateRecord, type GateRecord } from '../../gate/record.ts';
import { gateCodeQuality } from '../../gate/render/code-quality.ts';
import { gateAnnotations } from '../../gate/render/github.ts';
import { gateJunit } from '../../gate/render/junit.ts';
import { gateMarkdown } from '../../gate/render/markdown.ts';
import { gateMetrics } from '../../gate/render/open-metrics.ts';
import { verdictText } from '../../gate/render/terminal.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { readResult } from '../../result/store.ts';
import type { ResultRecord } from '../../result/schema.ts';
import { appendStepSummary } from '../files/step-summary.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { quotedWords } from '../grammar/quoted-words.ts';
import { cellWords } from '../options/cell-words.ts';
import { isStandardOutput, makes, OVERWRITE_OPTIONS, reads } from '../options/file-uses.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { text } from '../options/option-values.ts';
import type { Terminal } from '../terminal/terminal.ts';

const DEFAULT_BASELINE = 'results/baseline.json';
const LIST_MAX = 5;

export const gateCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('result', { type: 'string', demandOption: true, describe: 'Result file to check' })
      .options(
        inGroup('Gate:', {
          baseline: preset('Baseline to compare with', text('baseline'), DEFAULT_BASELINE),
          limits: optional('File of limits, gate.json; default: every count is exact', text('limits')),
          accept: flag('Accept this result as the new baseline instead of comparing'),
          all: flag('List every cell of each cause'),
          quiet: flag('Print only what fails, and the verdict'),
          json: flag('Print the verdict as JSON'),
        }),
      )
      .options(
        inGroup('Files for CI:', {
          markdown: optional('Markdown, for the comment of a pull request (at most 60 KB)', text('markdown')),
          junit: optional('JUnit report, a test case per cell', text('junit')),
          metrics: optional("OpenMetrics text, for GitLab's metrics report", text('metrics')),
          'code-quality': optional('GitLab code quality report', text('code-quality')),
          github: flag('Print annotations for GitHub Actions'),
          ...OVERWRITE_OPTIONS,
        }),
      )
      .epilogue(
        examples([
          ['bench --samples 0 --out result.json', 'count'],
          ['gate result.json --accept', 'create the baseline'],
          ['gate result.json', 'compare'],
        ]),
      ),

  files: ({ result, baseline, limits, accept, ...outputs }) => [
    ...reads('RESULT', result),
    ...(accept ? makes('baseline', '--baseline', baseline, DEFAULT_BASELINE) : reads('--baseline', baseline)),
    ...reads('--limits', limits),
    ...makes('gate markdown', '--markdown', outputs.markdown),
    ...makes('JUnit report', '--junit', outputs.junit),
    ...makes('metrics', '--metrics', outputs.metrics),
    ...makes('code quality report', '--code-quality', outputs['code-quality']),
  ],

  run: async (args, terminal) => {
    const { result: path, baseline: baselinePath, accept, json } = args;
    const result = readResult(path);
    if (accept) return acceptResult(result, { baselinePath, json }, terminal);
    if (!existsSync(baselinePath)) {
      const message =
        'does not exist: name a baseline with --baseline, or create one from this result with --accept';
      throw new Qcow2BenchError('baseline-unreadable', message, { path: baselinePath });
    }
    const limits = args.limits === undefined ? new GateLimits() : readGateLimits(args.limits);
    const baseline = readBaseline(baselinePath);
    const verdict = compareCounts(result, baseline, limits);
    const record = withVisibleText(
      gateRecord({
        verdict,
        result,
        baseline,
        paths: { result: path, baseline: baselinePath, limits: args.limits },
        acceptCommand: quotedWords(['gate', path, '--baseline', baselinePath, '--accept']),
        commandOf: (cell) => {
          const words = cellWords(cell);
          return words && quotedWords(words);
        },
      }),
    );
    writeFiles(record, args);
    print(record, verdict, args, terminal);
    return verdict.passed ? EXIT.good : EXIT.verdict;
  },
});

interface Outputs {
  readonly json: boolean;
  readonly all: boolean;
  readonly quiet: boolean;
  readonly github: boolean;
  readonly markdown: string | undefined;
  readonly junit: string | undefined;
  readonly metrics: string | undefined;
  readonly 'code-quality': string | undefined;
}

function acceptResult(
  result: ResultRecord,
  { baselinePath, json }: { readonly baselinePath: string; readonly json: boolean },
  terminal: Terminal,
): number {
  const accepted = acceptBaseline(result);
  writeBaseline(baselinePath, accepted);
  const cells = accepted.cells.length;
  terminal.print(
    json
      ? JSON.stringify({ accepted: baselinePath, cells })
      : `accepted ${countOf(cells, 'cell')} as ${visibleText(baselinePath)}`,
  );
  return EXIT.good;
}

function writeFiles(record: GateRecord, outputs: Outputs): void {
  const files = [
    [outputs.markdown, () => gateMarkdown(record)],
    [outputs.junit, () => gateJunit(record)],
    [outputs.metrics, () => gateMetrics(record)],
    [outputs['code-quality'], () => gateCodeQuality(record)],
  ] as const;
  for (const [path, render] of files) if (path !== undefined) replaceFile(path, render(), { durable: false });
  appendStepSummary(process.env, () => gateMarkdown(record));
}

function print(record: GateRecord, verdict: GateVerdict, outputs: Outputs, terminal: Terminal): void {
  const { markdown, junit, metrics } = outputs;
  const files = [markdown, junit, metrics, outputs['code-quality']];
  const say = (answer: string): void => {
    if (files.some(isStandardOutput)) terminal.warn(answer);
    else terminal.print(answer);
  };
  if (outputs.json) {
    const { problems, notes } = record;
    say(JSON.stringify({ ...verdict, problems, notes }, null, 2));
    return;
  }
  const { red: bad, green: good } = terminal.paint;
  say(
    verdictText(record, {
      paint: { bad, good },
      width: terminal.width,
      quiet: outputs.quiet,
      cellsMax: outputs.all ? Infinity : LIST_MAX,
    }),
  );
  const annotations = outputs.github ? gateAnnotations(record) : '';
  if (annotations !== '') say(annotations);
}
