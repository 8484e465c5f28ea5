/** `study`: a question about disk images, answered for the user's workload. */

import { join } from 'node:path';

import { countOf } from '../../core/number-text.ts';
import { visibleText } from '../../core/visible-text.ts';
import { checkWritableDirectory } from '../../device/output-directory.ts';
import { replaceFile } from '../../result/atomic-file.ts';
import { writeResult } from '../../result/store.ts';
import { studyCells, studyCsv } from '../../study/flat-table.ts';
import { readStudy, studyNames, studyPath } from '../../study/study-file.ts';
import { studyDocument, studyText } from '../../study/study-text.ts';
import { AXES, expandAxes, shippedNames } from '../../workload/library.ts';
import { traceExists, traceFiles } from '../../workload/trace/trace-files.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { quotedWords } from '../grammar/quoted-words.ts';
import { makes, OVERWRITE_OPTIONS, reads, type FileUse } from '../options/file-uses.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { listOf, suggesting, text } from '../options/option-values.ts';
import { STUDY_CELL_OPTIONS } from '../options/study-options.ts';
import { runStudy, type AnsweredStudy } from '../sessions/study-session.ts';
import { EXIT } from '../terminal/exit-code.ts';
import type { Terminal } from '../terminal/terminal.ts';

export const studyCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('study', {
        type: 'string',
        demandOption: true,
        describe: 'Name of a study (see list), or a study file',
      })
      .options(
        inGroup('Workloads:', {
          workload: optional(
            "Workload names, workload files or trace files, comma-separated; default: the study's own",
            listOf('workload', suggesting([...shippedNames(), ...AXES], text('workload'))),
          ),
        }),
      )
      .options(STUDY_CELL_OPTIONS)
      .options(
        inGroup('Files:', {
          output: optional(
            'Directory for the answer as Markdown, its chart (SVG), its table (CSV) and its result (JSON)',
            text('output'),
          ),
          ...OVERWRITE_OPTIONS,
          all: flag('Print every sentence and the whole table'),
          json: flag('Print the answer and its table as JSON'),
        }),
      )
      .epilogue(
        examples([
          ['study lazy-refcounts', 'with workloads of its own'],
          ['study l2-cache --workload my.trace.csv.gz', 'for a recording of yours'],
          ['study preallocation --device file --dir /mnt/nvme', 'with times of a disk instead of models'],
          ['study ./mine.json --output answers', 'a question of yours (docs/studies.md)'],
        ]),
      ),

  files: ({ study, workload, output }) => {
    const shipped = new Set(shippedNames());
    const named = expandAxes(workload ?? []).filter((name) => !shipped.has(name) && traceExists(name));
    const isFile = !studyNames().includes(study);
    return [
      ...reads('STUDY', isFile ? studyPath(study) : undefined),
      ...reads('--workload', ...named.flatMap(traceFiles)),
      ...outputFiles(output, isFile ? readStudy(study).name : study),
    ];
  },

  run: async ({ study: name, workload, output, json, all, ...given }, terminal) => {
    if (output !== undefined) checkWritableDirectory(output);
    const study = readStudy(name);
    const answered = await runStudy({ study, path: studyPath(name), workloads: workload, given }, terminal);
    if (answered === undefined) return EXIT.interrupted;
    const written = output === undefined ? [] : await writeStudy(answered, output, terminal);
    terminal.print(json ? jsonText(answered) : answerText(answered, { written, all }, terminal));
    return EXIT.good;
  },
});

const ENDINGS = { answer: '.md', chart: '.svg', table: '.csv', result: '.json' } as const;

function outputFiles(output: string | undefined, name: string): readonly FileUse[] {
  if (output === undefined) return [];
  const pathOf = (ending: string): string => join(output, name + ending);
  return [
    ...makes('study answer', '--output', pathOf(ENDINGS.answer)),
    ...makes('chart', '--output', pathOf(ENDINGS.chart)),
    ...makes('study table', '--output', pathOf(ENDINGS.table)),
    ...makes('result', '--output', pathOf(ENDINGS.result)),
  ];
}

async function writeStudy(
  answered: AnsweredStudy,
  output: string,
  { argv }: Terminal,
): Promise<readonly string[]> {
  // The chart libraries are large: they are loaded for a picture only.
  const { studyChartSvg } = await import('../../study/study-chart.ts');
  const { study, table, result } = answered;
  const pathOf = (ending: string): string => join(output, study.name + ending);
  const svg = await studyChartSvg(study, table);
  const picture = svg === undefined ? undefined : `${study.name}${ENDINGS.chart}`;
  const command = `qcow2-bench ${quotedWords(argv)}`;
  const texts = [
    [ENDINGS.answer, studyDocument(study, answered, { picture, command })],
    ...(svg === undefined ? [] : [[ENDINGS.chart, svg] as const]),
    [ENDINGS.table, studyCsv(study, table)],
  ] as const;
  for (const [ending, content] of texts) replaceFile(pathOf(ending), content, { durable: false });
  writeResult(pathOf(ENDINGS.result), result);
  return [...texts.map(([ending]) => pathOf(ending)), pathOf(ENDINGS.result)];
}

function answerText(
  answered: AnsweredStudy,
  { written, all }: { readonly written: readonly string[]; readonly all: boolean },
  { paint, width }: Terminal,
): string {
  const { study, table, elapsedMs } = answered;
  return [
    studyText(study, answered, { paint, width, all }),
    ...written.map((path) => `${paint.dim('Written')}  ${visibleText(path)}`),
    paint.dim(
      `${countOf(table.rows.length, 'cell')} in ${(elapsedMs / 1000).toFixed(1)} s` +
        (written.length === 0 ? '; --output DIR writes the answer with its chart, table and result' : ''),
    ),
  ].join('\n');
}

function jsonText({ study, sentences, table }: AnsweredStudy): string {
  return JSON.stringify(
    {
      study: study.name,
      question: study.question,
      answer: sentences,
      cells: studyCells(study, table),
      skipped: table.skipped,
    },
    null,
    2,
  );
}
