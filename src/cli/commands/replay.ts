/** `replay`: a recorded trace, read once to its end before anything is measured. */

import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { matrixFiles, readsTrace } from '../files/matrix-files.ts';
import { endMatrix } from '../sessions/matrix-ending.ts';
import { MATRIX_OPTIONS, WARM_UP } from '../options/matrix-options.ts';
import { runSession } from '../sessions/matrix-session.ts';
import { inGroup, optional } from '../options/option-kinds.ts';
import { REPLAY_OPTIONS } from '../options/replay-options.ts';
import { replaySource } from '../files/replay-source.ts';
import { TRACE_ARGUMENT, TRACE_OPTIONS } from '../options/trace-options.ts';

export const replayCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('trace', TRACE_ARGUMENT)
      .options(TRACE_OPTIONS)
      .options(REPLAY_OPTIONS)
      .options(MATRIX_OPTIONS)
      .options(
        inGroup('Measuring:', {
          warmup: optional(`${WARM_UP.describe}; default 1, with --timing 0`, WARM_UP.read),
        }),
      )
      .alias('requests', 'limit')
      .epilogue(
        examples([
          ['replay ext4-unpack --cache writeback', 'file system activity'],
          ['replay sqlite-wal --timing recorded --device file,model:ssd-sata', 'at the recorded times'],
          ['replay msr.csv.gz --flush-policy every=32', 'a trace without flushes'],
          ['replay mine.trace.csv.zst --limit 10000 --samples 0', 'the first requests, counts only'],
        ]),
      ),

  files: (args) => [...readsTrace(args.trace), ...matrixFiles(args)],

  run: async (args, terminal) => {
    const { timing, verify } = args;
    const { source, durationNs, remarksOf } = await replaySource(args);
    const session = {
      args: { ...args, warmup: args.warmup ?? (timing === undefined ? 1 : 0) },
      sources: [source],
      words: terminal.argv,
      remarksOf,
      replay: { timing, durationNs, verify },
    };
    const ended = await runSession(session, terminal);
    const files = args.out === undefined ? [] : [{ what: 'Result', path: args.out }];
    return endMatrix(ended, { args: session.args, files }, terminal);
  },
});
