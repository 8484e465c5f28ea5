/**
 * `gate`: exact counts against a baseline. What is new passes; what got worse, or is gone, does
 * not.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import { existsSync } from '../../core/host-fs.ts';
import { visibleText, withVisibleText } from '../../core/visible-text.ts';
import { acceptBaseline, readBaseline, writeBaseline } from '../../gate/baseline.ts';
import { compareCounts } from '../../gate/compare.ts';
import { verdictText } from '../../gate/render.ts';
import { readResult } from '../../result/store.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { makes, OVERWRITE_OPTIONS, reads } from '../options/file-uses.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { flag, inGroup, preset } from '../options/option-kinds.ts';
import { text } from '../options/option-values.ts';
import { countOf } from '../terminal/text.ts';

const DEFAULT_BASELINE = 'results/baseline.json';

export const gateCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('result', { type: 'string', demandOption: true, describe: 'Result file to check' })
      .options(
        inGroup('Gate:', {
          baseline: preset('Baseline to compare with', text('baseline'), DEFAULT_BASELINE),
          accept: flag('Accept this result as the new baseline instead of comparing'),
          ...OVERWRITE_OPTIONS,
          json: flag('Print the verdict as JSON'),
        }),
      )
      .epilogue(
        examples([
          ['bench --samples 0 --out result.json', 'count'],
          ['gate result.json', 'compare'],
        ]),
      ),

  files: ({ result, baseline, accept }) => [
    ...reads('RESULT', result),
    ...(accept ? makes('baseline', '--baseline', baseline, DEFAULT_BASELINE) : reads('--baseline', baseline)),
  ],

  run: async ({ result: path, baseline: baselinePath, accept, json }, terminal) => {
    const result = readResult(path);
    if (accept) {
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
    if (!existsSync(baselinePath)) {
      const message =
        'does not exist: name a baseline with --baseline, or create one from this result with --accept';
      throw new Qcow2BenchError('baseline-unreadable', message, { path: baselinePath });
    }
    const verdict = compareCounts(result, readBaseline(baselinePath));
    if (json) terminal.print(JSON.stringify(verdict, null, 2));
    else {
      const acceptHint = visibleText(`qcow2-bench gate ${path} --baseline ${baselinePath} --accept`);
      const { red: bad, green: good } = terminal.paint;
      terminal.print(verdictText(withVisibleText(verdict), { acceptHint, paint: { bad, good } }));
    }
    return verdict.passed ? EXIT.good : EXIT.verdict;
  },
});
