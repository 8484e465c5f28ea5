/** `trace slice`: a part of a trace, by time, count and volume. */

import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { makes } from '../options/file-uses.ts';
import { readsTrace } from '../files/matrix-files.ts';
import { inGroup, optional } from '../options/option-kinds.ts';
import { count, duration } from '../options/option-values.ts';
import { tracePath } from '../../workload/library.ts';
import { OUT_ARGUMENT, OUTPUT_OPTIONS, writeTraceOutput } from '../files/trace-output.ts';
import { TRACE_ARGUMENT, TRACE_OPTIONS, traceReading } from '../options/trace-options.ts';

export const traceSliceCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('trace', TRACE_ARGUMENT)
      .positional('out', OUT_ARGUMENT)
      .options(
        inGroup('Slice:', {
          from: optional('Start at this trace time: 90s, 1.5h …', duration('from')),
          until: optional('Stop before this trace time', duration('until')),
          skip: optional('Skip the first N requests after --from', count('skip', { min: 0 })),
          limit: optional('Keep at most N requests', count('limit', { min: 1 })),
        }),
      )
      .options(TRACE_OPTIONS)
      .options(OUTPUT_OPTIONS)
      .epilogue(
        examples([
          ['trace slice io_traces.csv.gz vm.trace.csv.zst --volume 419', 'one volume of a thousand'],
          ['trace slice hm_0.csv.gz hour.trace.csv --from 9h --until 10h', 'one hour; times restart at 0'],
        ]),
      ),

  files: (args) => [...readsTrace(args.trace), ...makes('trace', 'OUT', args.out)],

  run: (args, terminal) => {
    const { trace, out, from: fromNs, until: untilNs, skip, limit } = args;
    const selection = { fromNs, untilNs, skip, limit };
    return writeTraceOutput(
      { trace: tracePath(trace), out, reading: traceReading(args), selection, args },
      terminal,
    );
  },
});
