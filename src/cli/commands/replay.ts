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
import { inGroup, optional, preset } from '../option-kinds.ts';
import { text } from '../option-values.ts';
import { TRACE_ARGUMENT, TRACE_OPTIONS, traceReading } from '../trace-options.ts';

export const replayCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('trace', {
        type: 'string',
        demandOption: true,
        describe: `${TRACE_ARGUMENT.describe}; or the name of a recording that ships`,
      })
      .options(TRACE_OPTIONS)
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
    const source = await findSource(args.trace, { ...traceReading(args), limit: args.requests });
    if (source.kind === 'workload') {
      throw new Qcow2BenchError('not-a-trace', 'is a workload file: measure it with run --workload', {
        path: source.path,
      });
    }
    const skipped = await readThrough(source, args.requests);
    const remark = skipped === 0 ? undefined : leftOutText(skipped);
    const ended = await runSession({ args, sources: [source], words: terminal.words, remark }, terminal);
    const files = args.out === undefined ? [] : [{ what: 'Result', path: args.out }];
    return endMatrix(ended, { args, files }, terminal);
  },
});

function leftOutText(records: number): string {
  if (records === 1) return '1 line of the trace breaks a rule and was left out';
  return `${String(records)} lines of the trace break a rule and were left out`;
}

/** Reads all that will be replayed, so that a broken line is told before the first cell; lines left out. */
async function readThrough({ path, reading }: RecordedSource, limit: number | undefined): Promise<number> {
  await using trace = await openTrace(path, { ...reading, limit });
  let requests = 0;
  for await (const batch of trace.batches) requests += batch.length;
  if (requests > 0) return trace.skippedCount;
  throw new Qcow2BenchError('no-requests', 'the trace holds no request to replay', { path });
}
