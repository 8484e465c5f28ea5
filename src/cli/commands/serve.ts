/** `serve`: an image behind an NBD server, for any program that speaks NBD. */

import { BACKING_OPTIONS } from '../options/backing-options.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { OPENING_OPTIONS, SHAPE_OPTIONS } from '../options/layout-options.ts';
import { OVERWRITE_OPTIONS } from '../options/file-uses.ts';
import { LISTEN_OPTIONS, SERVED_IMAGE_OPTIONS, servedFiles } from '../options/nbd-options.ts';
import { runNbdSession } from '../sessions/nbd-session.ts';
import { inGroup } from '../options/option-kinds.ts';

export const serveCommand = defineCommand({
  options: (yargs) =>
    yargs
      .options(SERVED_IMAGE_OPTIONS)
      .options(SHAPE_OPTIONS)
      .options(OPENING_OPTIONS)
      .options(BACKING_OPTIONS)
      .options(LISTEN_OPTIONS)
      .options(inGroup('Files:', OVERWRITE_OPTIONS))
      .epilogue(
        examples([
          ['serve --image disk.qcow2 --socket /tmp/disk.sock', 'until Ctrl-C'],
          ['serve --image disk.qcow2 --read-only --listen 127.0.0.1:10809', 'inspect an image'],
        ]),
      ),

  files: servedFiles,

  run: (args, terminal) => runNbdSession(args, undefined, terminal),
});
