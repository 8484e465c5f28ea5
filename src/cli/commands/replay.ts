/** `replay`: a recorded trace, read once to its end before anything is measured. */

import { Qcow2BenchError } from '../../core/error.ts';
import { findSource, type RecordedSource } from '../../workload/library.ts';
import { openTrace } from '../../workload/trace/trace-reader.ts';
import { defineCommand } from '../command.ts';
import { examples } from '../examples.ts';
import { CACHE_SIZE_OPTIONS, SHAPE_OPTIONS } from '../layout-options.ts';
import { endMatrix } from '../matrix-ending.ts';
import { CELL_OPTIONS, MEASURE_OPTIONS, PLACE_OPTIONS, TIME_LIMIT, WARM_UP } from '../matrix-options.ts';
import { runSession } from '../matrix-session.ts';
import { flag, inGroup, optional, preset } from '../option-kinds.ts';
import { text } from '../option-values.ts';

export const replayCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('trace', {
        type: 'string',
        demandOption: true,
        describe: 'A trace file, plain, .gz or .zst, or the name of a recording that ships',
      })
      .options(
        inGroup('Trace:', {
          'skip-bad': flag('Leave out lines that break a rule, and say how many, instead of stopping'),
        }),
      )
      .options(CELL_OPTIONS)
      .options(SHAPE_OPTIONS)
      .options(CACHE_SIZE_OPTIONS)
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
      .alias('requests', 'limit')
      .epilogue(
        examples([
          ['replay ext4-unpack --cache writeback', 'a file system at work'],
          ['replay mine.trace.csv.zst --limit 10000 --samples 0', 'the beginning, counts only'],
        ]),
      ),

  run: async (args, terminal) => {
    const skipBad = args['skip-bad'];
    const source = await findSource(args.trace, { skipBad });
    if (source.kind === 'workload') {
      throw new Qcow2BenchError('not-a-trace', 'is a workload file: measure it with run --workload', {
        path: source.path,
      });
    }
    const skipped = await readThrough(source, { skipBad, limit: args.requests });
    const remark = skipped === 0 ? undefined : leftOutText(skipped);
    const ended = await runSession({ args, sources: [source], words: terminal.words, remark }, terminal);
    const files = args.out === undefined ? [] : [{ what: 'Result', path: args.out }];
    return endMatrix(ended, { args, files }, terminal);
  },
});

function leftOutText(lines: number): string {
  if (lines === 1) return '1 line of the trace breaks a rule and was left out';
  return `${String(lines)} lines of the trace break a rule and were left out`;
}

/** Reads all that will be replayed, so that a broken line is told before the first cell; lines left out. */
async function readThrough(
  { path }: RecordedSource,
  options: { readonly skipBad: boolean; readonly limit: number | undefined },
): Promise<number> {
  await using trace = await openTrace(path, options);
  let requests = 0;
  for await (const batch of trace.batches) requests += batch.length;
  if (requests > 0) return trace.skippedCount;
  throw new Qcow2BenchError('no-requests', 'the trace holds no request to replay', { path });
}
