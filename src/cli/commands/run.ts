/** `run`: workloads × formats × cache modes of the user's choice. */

import { expandAxes, findSource, shippedNames } from '../../workload/library.ts';
import { defineCommand } from '../command.ts';
import { examples } from '../examples.ts';
import { OPENING_OPTIONS, SHAPE_OPTIONS } from '../layout-options.ts';
import { endMatrix } from '../matrix-ending.ts';
import { CELL_OPTIONS, MEASURE_OPTIONS, PLACE_OPTIONS, TIME_LIMIT, WARM_UP } from '../matrix-options.ts';
import { runSession } from '../matrix-session.ts';
import { inGroup, optional, preset } from '../option-kinds.ts';
import { listOf, text } from '../option-values.ts';

export const runCommand = defineCommand({
  options: (yargs) =>
    yargs
      .options(
        inGroup('Workloads:', {
          workload: optional(
            'Names (see list) and workload or trace files, separated by commas; default: all that ship',
            listOf('workload', text('workload')),
          ),
        }),
      )
      .options(CELL_OPTIONS)
      .options(SHAPE_OPTIONS)
      .options(OPENING_OPTIONS)
      .options(MEASURE_OPTIONS)
      .options(
        inGroup('Measuring:', {
          'time-limit': optional(
            `${TIME_LIMIT.describe}; default 60 where --samples is left out`,
            TIME_LIMIT.read,
          ),
          warmup: preset(WARM_UP.describe, WARM_UP.read, '1'),
        }),
      )
      .options(inGroup('Files:', { out: optional('Where the result goes, as JSON', text('out')) }))
      .options(PLACE_OPTIONS)
      .epilogue(
        examples([
          ['run --workload stride --format qcow2 --cache writethrough', 'eager against lazy'],
          ['run --workload ./mine.json --cluster-size 64KiB,1MiB --samples 0', 'your own, counts only'],
          ['run --workload stride --format qed --cache none --host-log ops.jsonl', 'every operation'],
        ]),
      ),

  run: async (args, terminal) => {
    const names = expandAxes(args.workload ?? shippedNames());
    const sources = await Promise.all(names.map((name) => findSource(name)));
    const ended = await runSession({ args, sources, words: terminal.words }, terminal);
    const files = args.out === undefined ? [] : [{ what: 'Result', path: args.out }];
    return endMatrix(ended, { args, files }, terminal);
  },
});
