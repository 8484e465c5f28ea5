/**
 * `bench`: the main job. The shipped suite over every format and cache mode; result, table, page
 * and answer.
 */

import { wrapped } from '../../core/text-lines.ts';
import { outputPlace } from '../../device/output-place.ts';
import { quotedCells } from '../../report/answer.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { resultCsv } from '../../result/csv.ts';
import { readStudy, studyNames, studyPath } from '../../study/study-file.ts';
import { findSource, shippedNames, type WorkloadSource } from '../../workload/library.ts';
import { BACKING_OPTIONS } from '../options/backing-options.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { makes, OVERWRITE_OPTIONS } from '../options/file-uses.ts';
import { LAYOUT_AXES } from '../options/layout-options.ts';
import { matrixFiles } from '../files/matrix-files.ts';
import { endMatrix, type WrittenFile } from '../sessions/matrix-ending.ts';
import {
  CELL_OPTIONS,
  MEASURE_OPTIONS,
  PLACE_OPTIONS,
  TIME_LIMIT,
  WARM_UP,
} from '../options/matrix-options.ts';
import { runSession, type SessionOutcome } from '../sessions/matrix-session.ts';
import { closerLook } from '../sessions/closer-look.ts';
import { runStudy } from '../sessions/study-session.ts';
import { EXIT } from '../terminal/exit-code.ts';
import type { Terminal } from '../terminal/terminal.ts';
import { flag, inGroup, optional, preset, withDefault } from '../options/option-kinds.ts';
import { choice, listOf, text } from '../options/option-values.ts';

const SUITES = ['default', 'full'] as const;
type Suite = (typeof SUITES)[number];
const DEFAULT_RESULT = 'results/latest.json';
const DEFAULT_REPORT = 'reports/index.html';

/** Studies that are answered after the suite: the first ones, over a part of their requests. */
const STUDIES = 3;
const STUDY_REQUESTS = 256;
const STUDY_DEVICE = 'model:nvme-consumer';

/** The default suite is to take two minutes: a long recording is served up to here. */
const RECORDING_REQUESTS_MAX = 8192;

export const benchCommand = defineCommand({
  options: (yargs) =>
    yargs
      .options(
        inGroup('Workloads:', {
          workload: optional(
            'Workload names (see list), workload files or trace files, comma-separated; default: all bundled ones',
            listOf('workload', text('workload')),
          ),
          suite: preset(
            `Part of each recording: default (${RECORDING_REQUESTS_MAX.toLocaleString('en')} requests) or full`,
            choice('suite', SUITES),
            'default',
          ),
          study: withDefault(
            optional(
              'Studies to answer after the suite (see list), or none',
              listOf('study', choice('study', ['none', ...studyNames()])),
            ),
            'the first three',
          ),
        }),
      )
      .options(CELL_OPTIONS)
      .options(LAYOUT_AXES)
      .options(BACKING_OPTIONS)
      .options(MEASURE_OPTIONS)
      .options(
        inGroup('Measuring:', {
          full: flag('Time all cells; default: those that the answer quotes'),
          'time-limit': preset(TIME_LIMIT.describe, TIME_LIMIT.read, '40'),
          // Counting has warmed the program up, and a round of the suite is long.
          warmup: preset(WARM_UP.describe, WARM_UP.read, '0'),
        }),
      )
      .options(
        inGroup('Files:', {
          out: preset('Result file; its CSV table is written next to it', text('out'), DEFAULT_RESULT),
          report: preset('Report page with the charts', text('report'), DEFAULT_REPORT),
          ...OVERWRITE_OPTIONS,
        }),
      )
      .options(PLACE_OPTIONS)
      .epilogue(
        examples([
          ['bench', 'the whole suite, in about a minute'],
          ['bench --dir /mnt/nvme --samples 20', 'more samples, on another disk'],
          ['bench --samples 0', 'exact counts only'],
          ['bench --full --time-limit 600', 'times of all cells'],
          ['bench --suite full', 'recordings in full'],
        ]),
      ),

  files: (args) => [
    ...matrixFiles(args, DEFAULT_RESULT),
    ...makes('table', 'the table of --out', tableOf(args.out), tableOf(DEFAULT_RESULT)),
    ...makes('page', '--report', args.report, DEFAULT_REPORT),
  ],

  run: async (args, terminal) => {
    const names = args.workload ?? shippedNames();
    const sources = await Promise.all(names.map(async (name) => inSuite(args.suite, await findSource(name))));
    const timedCells = args.full ? undefined : quotedCells;
    const ended = await runSession({ args, sources, words: terminal.argv, timedCells }, terminal);
    const files = await writeFiles(ended, { out: args.out, report: args.report });
    const code = endMatrix(ended, { args, files }, terminal);
    // A matrix of one's own is its own question.
    if (ended.kind === 'interrupted' || args.json || args.workload !== undefined) return code;
    return (await answerStudies(args.study ?? studyNames().slice(0, STUDIES), terminal)) ?? code;
  },
});

function inSuite(suite: Suite, source: WorkloadSource): WorkloadSource {
  if (suite === 'full' || source.kind === 'workload') return source;
  return { ...source, limit: RECORDING_REQUESTS_MAX };
}

/** The headline of each study; the exit code if they were interrupted. */
async function answerStudies(names: readonly string[], terminal: Terminal): Promise<number | undefined> {
  const { paint, width } = terminal;
  for (const name of names.filter((each) => each !== 'none')) {
    const study = readStudy(name);
    const given = { requests: STUDY_REQUESTS, device: [STUDY_DEVICE] };
    const answered = await runStudy({ study, path: studyPath(name), workloads: undefined, given }, terminal);
    if (answered === undefined) return EXIT.interrupted;
    const [headline] = answered.sentences;
    const text = headline === undefined ? 'No answer.' : headline.text;
    const command = `qcow2-bench study ${name}`;
    terminal.print(
      ['', paint.bold(study.question), ...wrapped(text, width), paint.dim(`all of it: ${command}`)].join(
        '\n',
      ),
    );
  }
  return undefined;
}

async function writeFiles(
  ended: SessionOutcome,
  { out, report }: { readonly out: string; readonly report: string },
): Promise<readonly WrittenFile[]> {
  if (ended.kind === 'interrupted') return [];
  const table = tableOf(out);
  if (table !== undefined) replaceFile(table, resultCsv(ended.result), { durable: false });
  const { reportHtml } = await import('../../report/html.ts');
  replaceFile(report, reportHtml(ended.result, await closerLook(ended.result)), { durable: false });
  return [
    { what: 'Result', path: out },
    ...(table === undefined ? [] : [{ what: 'Table', path: table }]),
    { what: 'Report', path: report },
  ];
}

/** Beside the result; a stream has none. */
function tableOf(out: string): string | undefined {
  return outputPlace(out).kind === 'file' ? `${out.replace(/\.json$/, '')}.csv` : undefined;
}
