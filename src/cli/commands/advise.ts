/** `advise`: which settings of an image suit a workload, with the evidence, and lines to paste. */

import { resolve } from 'node:path';

import { adviceOf, type Setting } from '../../study/advice.ts';
import { adviceText, headlineOf } from '../../study/advice-text.ts';
import { pasteLines, type PasteLine } from '../../study/paste-lines.ts';
import { l2CacheFor, surprisesOf } from '../../study/surprises.ts';
import { figureIn, requiredFigure } from '../../study/table.ts';
import { modelName } from '../../device/device-model.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { readsTrace } from '../files/matrix-files.ts';
import { flag, inGroup, preset } from '../options/option-kinds.ts';
import { count, text } from '../options/option-values.ts';
import { REPLAY_OPTIONS } from '../options/replay-options.ts';
import { ADVICE_OPTIONS } from '../options/study-options.ts';
import { TRACE_OPTIONS } from '../options/trace-options.ts';
import { advise } from '../sessions/advice-session.ts';
import { EXIT } from '../terminal/exit-code.ts';

const DEFAULT_REQUESTS = '4096';
const DEFAULT_PATH = 'disk.qcow2';

export const adviseCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('workload', {
        type: 'string',
        demandOption: true,
        describe: 'A trace (see replay), a workload file, or a bundled name (see list)',
      })
      .options(TRACE_OPTIONS)
      .options(
        inGroup('Advice:', {
          requests: preset('Run only the first N requests', count('requests', { min: 1 }), DEFAULT_REQUESTS),
          ...ADVICE_OPTIONS,
          'fill-reads': REPLAY_OPTIONS['fill-reads'],
          path: preset('Path of the image in the lines to paste', text('path'), DEFAULT_PATH),
          json: flag('Print the advice as JSON'),
        }),
      )
      .epilogue(
        examples([
          ['advise my.trace.csv.gz', 'a recording of yours (see record)'],
          ['advise disk-in-use.trace.csv --fill-reads on', 'of a disk that had data before it was recorded'],
          ['advise postgres-pgbench --cache writeback', 'for another cache mode'],
          ['advise msr.csv.gz --requests 100000', 'a trace of another format, more of it'],
        ]),
      ),

  files: ({ workload }) => readsTrace(workload),

  run: async ({ workload, requests, path, json, 'fill-reads': fillReads, ...args }, terminal) => {
    const advised = await advise({ workload, requests, given: args, trace: args, fillReads }, terminal);
    if (advised === undefined) return EXIT.interrupted;
    const { source, table, sure } = advised;
    const { virtualSize } = source;
    const advice = adviceOf(table);
    const [first] = advice;
    const surprises = first === undefined ? [] : surprisesOf(table, { cache: first.cache, virtualSize });
    const taken = first?.taken;
    const l2CacheSize = taken === undefined ? undefined : l2CacheFor(taken.row, virtualSize);
    const disk = { path, absolutePath: resolve(path), virtualSize, l2CacheSize };
    const lines = taken === undefined ? [] : pasteLines(taken.row.cell, disk);
    if (json) {
      const all = advice.map((each) => ({
        cache: each.cache,
        headline: headlineOf(source.name, each),
        taken: each.taken?.name,
        ranked: each.ranked.map((setting) => settingJson(setting, table.devices)),
      }));
      terminal.print(
        JSON.stringify(
          { workload: source.name, advice: all, surprises, sure, lines: linesJson(lines) },
          null,
          2,
        ),
      );
    } else {
      const given = { workload: source.name, advice, table, surprises, lines, sure };
      terminal.print(adviceText(given, terminal));
    }
    return EXIT.good;
  },
});

function settingJson({ row, name, score, costs }: Setting, devices: readonly string[]): object {
  const valueOf = (figure: string): number | null => figureIn(row, requiredFigure(figure));
  return {
    name,
    score,
    costs,
    syncs: valueOf('syncs'),
    bytes: valueOf('bytes'),
    allocatedStart: valueOf('allocatedStart'),
    allocatedEnd: valueOf('allocatedEnd'),
    timesNs: Object.fromEntries(
      devices.map((device) => [device, valueOf(`time:${modelName(device) ?? device}`)]),
    ),
  };
}

function linesJson(lines: readonly PasteLine[]): Readonly<Record<string, string>> {
  return Object.fromEntries(lines.map(({ tool, text: line }) => [tool, line]));
}
