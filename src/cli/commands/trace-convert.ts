/** `trace convert`: a trace in another format. */

import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { makes } from '../options/file-uses.ts';
import { readsTrace } from '../files/matrix-files.ts';
import { tracePath } from '../../workload/library.ts';
import { OUT_ARGUMENT, OUTPUT_OPTIONS, writeTraceOutput } from '../files/trace-output.ts';
import { TRACE_ARGUMENT, TRACE_OPTIONS, traceReading } from '../options/trace-options.ts';

export const traceConvertCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('trace', TRACE_ARGUMENT)
      .positional('out', OUT_ARGUMENT)
      .options(TRACE_OPTIONS)
      .options(OUTPUT_OPTIONS)
      .epilogue(
        examples([
          ['trace convert sda.blktrace.0 sda.trace.csv.zst', 'all CPUs, compressed'],
          ['trace convert mine.trace.csv mine.iolog --to fio-v3 --lossy', 'for fio --read_iolog'],
        ]),
      ),

  files: (args) => [...readsTrace(args.trace), ...makes('trace', 'OUT', args.out)],

  run: (args, terminal) => {
    const { trace, out } = args;
    return writeTraceOutput(
      { trace: tracePath(trace), out, reading: traceReading(args), selection: {}, args },
      terminal,
    );
  },
});
