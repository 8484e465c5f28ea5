/** `run`: workloads × formats × cache modes of the user's choice. */

import { AXES, expandAxes, findSource, shippedNames } from '../../workload/library.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { matrixFiles } from '../files/matrix-files.ts';
import { endMatrix } from '../sessions/matrix-ending.ts';
import { MATRIX_OPTIONS, WARM_UP } from '../options/matrix-options.ts';
import { runSession } from '../sessions/matrix-session.ts';
import { inGroup, optional, preset } from '../options/option-kinds.ts';
import { listOf, suggesting, text } from '../options/option-values.ts';

export const runCommand = defineCommand({
  options: (yargs) =>
    yargs
      .options(
        inGroup('Workloads:', {
          workload: optional(
            'Workload names (see list), workload files or trace files, comma-separated; default: all bundled ones',
            listOf('workload', suggesting([...shippedNames(), ...AXES], text('workload'))),
          ),
        }),
      )
      .options(MATRIX_OPTIONS)
      .options(inGroup('Measuring:', { warmup: preset(WARM_UP.describe, WARM_UP.read, '1') }))
      .epilogue(
        examples([
          ['run --workload stride --format qcow2 --cache writethrough', 'eager and lazy refcounts'],
          [
            'run --workload ./mine.json --cluster-size 64KiB,1MiB --samples 0',
            'your own workload, counts only',
          ],
          [
            'run --workload stride --format qed --cache none --host-log ops.jsonl',
            'log every host operation',
          ],
        ]),
      ),

  files: (args) => matrixFiles(args),

  run: async (args, terminal) => {
    const names = expandAxes(args.workload ?? shippedNames());
    const sources = await Promise.all(names.map((name) => findSource(name)));
    const ended = await runSession({ args, sources, words: terminal.argv }, terminal);
    const files = args.out === undefined ? [] : [{ what: 'Result', path: args.out }];
    return endMatrix(ended, { args, files }, terminal);
  },
});
