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
import type { CountedCell, ResultRecord } from '../../result/schema.ts';
import { Checkouts } from '../files/checkouts.ts';
import { appendStepSummary } from '../files/step-summary.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { quotedWords } from '../grammar/quoted-words.ts';
import { cellWords } from '../options/cell-words.ts';
import { isStandardOutput, makes, OVERWRITE_OPTIONS, reads, type FileUse } from '../options/file-uses.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { flag, inGroup, optional, preset, withDefault } from '../options/option-kinds.ts';
import { choice, count, text } from '../options/option-values.ts';
import { bisect, runAgainst, withoutVersions } from '../sessions/commit-runs.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { badOption, UsageError } from '../terminal/usage-error.ts';
import { StepProgress } from '../terminal/step-progress.ts';
import type { Terminal } from '../terminal/terminal.ts';

const DEFAULT_BASELINE = 'results/baseline.json';
const LIST_MAX = 5;
const ROUNDS_MAX = 1000;
const DEFAULT_ROUNDS = 15;
const DEFAULT_RUN =
  'run --workload database-commit,random-allocation --format qcow2,qed --cache writethrough,writeback';

export const gateCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('result', {
        type: 'string',
        describe: 'Result file to check; with --bisect the newer commit, default HEAD',
      })
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
        inGroup('Commits of a clone of this program, in place of RESULT:', {
          against: optional('Compare HEAD with its merge base with this branch or commit', text('against')),
          bisect: optional('Find the commit after this one that changed a count', text('bisect')),
          run: withDefault(
            optional('Command that counts and times', text('run')),
            'run, some cells of qcow2 and QED',
          ),
          rounds: withDefault(
            optional(
              '--against: rounds of timing; 0: counts only',
              count('rounds', { min: 0, max: ROUNDS_MAX }),
            ),
            String(DEFAULT_ROUNDS),
          ),
          time: withDefault(
            optional('--against: what a slower cell does: advise, fail', choice('time', ['advise', 'fail'])),
            'advise',
          ),
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
          ['gate --against origin/main --markdown gate.md', 'a pull request, counts and times'],
          ['gate --bisect v0.1.0 HEAD', 'which commit changed a count'],
        ]),
      ),

  files: ({ result, baseline, limits, accept, against, bisect, ...outputs }) => [
    ...(against === undefined && bisect === undefined
      ? [...reads('RESULT', result), ...baselineFile(baseline, { isMade: accept })]
      : []),
    ...reads('--limits', limits),
    ...makes('gate markdown', '--markdown', outputs.markdown),
    ...makes('JUnit report', '--junit', outputs.junit),
    ...makes('metrics', '--metrics', outputs.metrics),
    ...makes('code quality report', '--code-quality', outputs['code-quality']),
  ],

  run: async (args, terminal) => {
    const { result: path, baseline: baselinePath, accept, json } = args;
    if (args.against !== undefined) return gateAgainst(args.against, args, terminal);
    if (args.bisect !== undefined) return gateBisect(args.bisect, args, terminal);
    const alone = (['run', 'rounds', 'time'] as const).find((name) => args[name] !== undefined);
    if (alone !== undefined) throw new UsageError(`--${alone} needs --against or --bisect`);
    if (path === undefined) {
      throw new UsageError('RESULT is missing: name a result, or commits with --against or --bisect');
    }
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
        commandOf,
      }),
    );
    writeFiles(record, args);
    print(record, verdict, args, terminal);
    return record.passed ? EXIT.good : EXIT.verdict;
  },
});

function baselineFile(path: string, { isMade }: { readonly isMade: boolean }): readonly FileUse[] {
  return isMade ? makes('baseline', '--baseline', path, DEFAULT_BASELINE) : reads('--baseline', path);
}

function commandOf(cell: CountedCell): string | undefined {
  const words = cellWords(cell);
  return words && quotedWords(words);
}

interface CommitArgs extends Outputs {
  readonly result: string | undefined;
  readonly accept: boolean;
  readonly limits: string | undefined;
  readonly run: string | undefined;
  readonly rounds: number | undefined;
  readonly time: 'advise' | 'fail' | undefined;
}

async function gateAgainst(name: string, args: CommitArgs, terminal: Terminal): Promise<number> {
  refuseResult('--against', args);
  if (args.result !== undefined) throw new UsageError('--against runs both commits: omit RESULT');
  const limits = args.limits === undefined ? new GateLimits() : readGateLimits(args.limits);
  return withCheckouts(terminal, async (checkouts, steps) => {
    const head = await checkouts.commit('HEAD');
    const base = await checkouts.mergeBase(await checkouts.commit(name), head);
    if (await checkouts.isChanged()) terminal.warn('Uncommitted changes are not compared: HEAD is.');
    if (base.id === head.id) terminal.warn(`HEAD is part of ${name}: it is compared with itself.`);
    const words = wordsOf(args.run);
    const { rounds = DEFAULT_ROUNDS } = args;
    const outcome = await runAgainst(checkouts, { base, head, words, rounds, progress: steps.begin });
    steps.end();
    const baseline = withoutVersions(acceptBaseline(outcome.base));
    const verdict = compareCounts(outcome.head, baseline, limits);
    const record = withVisibleText(
      gateRecord({
        verdict,
        result: outcome.head,
        baseline,
        paths: { result: head.title, baseline: base.title, limits: args.limits },
        acceptCommand: undefined,
        times: outcome.times,
        timeFails: args.time === 'fail',
        commandOf,
      }),
    );
    writeFiles(record, args);
    print(record, verdict, args, terminal);
    return record.passed ? EXIT.good : EXIT.verdict;
  });
}

async function gateBisect(name: string, args: CommitArgs, terminal: Terminal): Promise<number> {
  refuseResult('--bisect', args);
  const timed = (['rounds', 'time'] as const).find((each) => args[each] !== undefined);
  if (timed !== undefined) throw new UsageError(`--bisect compares counts: omit --${timed}`);
  return withCheckouts(terminal, async (checkouts, steps) => {
    const good = await checkouts.commit(name);
    const bad = await checkouts.commit(args.result ?? 'HEAD');
    const found = await bisect(checkouts, { good, bad, words: wordsOf(args.run), progress: steps.begin });
    steps.end();
    if (found.kind === 'none') {
      terminal.print(
        args.json
          ? JSON.stringify({ commits: [] })
          : `no count differs between ${good.title} and ${bad.title}, ${countOf(found.commits, 'commit')} later`,
      );
      return EXIT.good;
    }
    const { suspects, before, result } = found;
    const verdict = compareCounts(result, before);
    const record = withVisibleText(
      gateRecord({
        verdict,
        result,
        baseline: before,
        paths: { result: suspects.at(-1)?.title ?? '', baseline: good.title },
        acceptCommand: undefined,
        commandOf,
      }),
    );
    if (args.json) {
      const { problems, notes } = record;
      terminal.print(JSON.stringify({ commits: suspects, problems, notes }, null, 2));
      return EXIT.verdict;
    }
    const { red, green, bold } = terminal.paint;
    const text = verdictText(record, { paint: { bad: red, good: green }, width: terminal.width });
    terminal.print(text);
    terminal.print('');
    terminal.print(
      bold(
        suspects.length === 1
          ? `the first commit that counts otherwise: ${suspects[0]?.title ?? ''}`
          : `one of ${countOf(suspects.length, 'commit')} counts otherwise; those before the last cannot be run:`,
      ),
    );
    if (suspects.length > 1) for (const { title } of suspects) terminal.print(`  ${title}`);
    return EXIT.verdict;
  });
}

function refuseResult(option: string, { accept, ...args }: CommitArgs): void {
  if (accept) throw new UsageError(`${option} compares commits: omit --accept`);
  const given = ['junit', 'metrics', 'code-quality'] as const;
  const other = given.find((each) => args[each] !== undefined);
  if (other !== undefined) {
    throw new UsageError(`${option}: --${other} is of a result; use --markdown or --json`);
  }
}

/** What a shell would make of it, without its quotes and variables. */
function wordsOf(run = DEFAULT_RUN): readonly string[] {
  const words = run.trim().split(/\s+/);
  const [command = ''] = words;
  if (command === 'run' || command === 'bench' || command === 'replay') return words;
  throw badOption('run', run, 'the words of bench, run or replay');
}

/** Steps of work on commits, as they begin, and when they are over. */
interface Steps {
  readonly begin: (text: string, share: number) => void;
  readonly end: () => void;
}

/** Nothing that was made for the commits stays, also after Ctrl-C. */
async function withCheckouts(
  terminal: Terminal,
  work: (checkouts: Checkouts, steps: Steps) => Promise<number>,
): Promise<number> {
  using shown = new StepProgress(terminal.errors);
  using interruption = new Interruption(terminal, () => {
    shown.clear();
  });
  try {
    using checkouts = await Checkouts.open(process.cwd(), interruption.signal);
    return await work(checkouts, {
      begin: (text, share) => {
        interruption.signal.throwIfAborted();
        shown.begin(text, share);
      },
      end: () => {
        shown.clear();
      },
    });
  } catch (error) {
    if (error instanceof Interrupted) return EXIT.interrupted;
    throw error;
  }
}

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
    const { passed, problems, notes, times } = record;
    say(JSON.stringify({ ...verdict, passed, problems, notes, times }, null, 2));
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
