/** `record`: an image behind an NBD server that writes down every request, for `replay`. */

import { BACKING_OPTIONS } from '../options/backing-options.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { OPENING_OPTIONS, SHAPE_OPTIONS } from '../options/layout-options.ts';
import { makes, OVERWRITE_OPTIONS } from '../options/file-uses.ts';
import {
  LISTEN_OPTIONS,
  SERVED_IMAGE_OPTIONS,
  servedFiles,
  traceFact,
  traceTitle,
  type TraceFact,
} from '../options/nbd-options.ts';
import { runNbdSession } from '../sessions/nbd-session.ts';
import { inGroup, optional, repeated } from '../options/option-kinds.ts';
import { text } from '../options/option-values.ts';
import { UsageError } from '../terminal/usage-error.ts';

export const recordCommand = defineCommand({
  options: (yargs) =>
    yargs
      .options(SERVED_IMAGE_OPTIONS)
      .options(SHAPE_OPTIONS)
      .options(OPENING_OPTIONS)
      .options(BACKING_OPTIONS)
      .options(LISTEN_OPTIONS)
      .options(
        inGroup('Files:', {
          trace: optional('Trace file to write; compressed if it ends in .gz or .zst', text('trace')),
          title: optional("Title for the trace's header, one line, shown in lists and reports", traceTitle),
          fact: repeated("Provenance for the trace's header, as KEY=VALUE; repeatable", traceFact),
          ...OVERWRITE_OPTIONS,
        }),
      )
      .epilogue(
        examples([
          [
            'record --image disk.qcow2 --create 1GiB --socket /tmp/disk.sock --trace my.trace.csv.gz',
            'until Ctrl-C',
          ],
          [
            'record --image disk.raw --format raw --listen localhost:0 --trace my.trace.csv --once',
            'one client',
          ],
        ]),
      ),

  files: (args) => [...servedFiles(args), ...makes('trace', '--trace', args.trace)],

  run: async (args, terminal) => {
    if (args.trace === undefined) {
      throw new UsageError('--trace is required; use serve to serve without recording');
    }
    const title: readonly TraceFact[] = args.title === undefined ? [] : [['title', args.title]];
    return runNbdSession(args, { path: args.trace, facts: [...title, ...args.fact] }, terminal);
  },
});
