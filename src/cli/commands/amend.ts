/** `amend`: lazy refcounts on or off, another version, as `qemu-img amend` makes them. */

import { visibleText } from '../../core/visible-text.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { COMPAT_LEVELS, REFCOUNT_MODES } from '../../format/image-shape.ts';
import { amendImage } from '../../image/amend-image.ts';
import { WRITABLE_HOST_FILES } from '../../image/host-image.ts';
import { formatOfFile } from '../../image/open-chain.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { BACKING_OPTIONS, backingPolicy, DATA_FILE_PATH } from '../options/backing-options.ts';
import { changesImage } from '../options/file-uses.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { choice } from '../options/option-values.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { UsageError } from '../terminal/usage-error.ts';

export const amendCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', demandOption: true, describe: 'A qcow2 image' })
      .options(
        inGroup('Amend:', {
          refcounts: optional(
            'lazy: postpone refcount updates; eager: write them as they change',
            choice('refcounts', REFCOUNT_MODES),
          ),
          compat: optional(
            '1.1 (version 3) or 0.10 (version 2: its zero clusters become unallocated, or written zeroes)',
            choice('compat', COMPAT_LEVELS),
          ),
          format: optional(
            'Format of the image; default: detected from the content',
            choice('format', FORMATS),
          ),
          json: flag('Print what was changed as JSON'),
        }),
      )
      .options(BACKING_OPTIONS)
      .options(DATA_FILE_PATH)
      .epilogue(
        examples([
          ['amend disk.qcow2 --refcounts lazy', 'lazy refcounts from the next opening on'],
          ['amend old.qcow2 --compat 1.1 --refcounts lazy', 'of an image of version 2'],
        ]),
      ),

  files: (args) => changesImage('IMAGE', args.image),

  run: async (args, terminal) => {
    const { image, compat, refcounts } = args;
    if (compat === undefined && refcounts === undefined) {
      throw new UsageError(`nothing to change in ${visibleText(image)}: give --refcounts, --compat or both`);
    }
    const format = args.format ?? (await formatOfFile(image));
    const { before, after } = await amendImage({
      name: image,
      format,
      files: WRITABLE_HOST_FILES,
      backing: backingPolicy(args),
      change: { compat, refcounts },
    });
    if (args.json) {
      terminal.print(JSON.stringify({ filename: image, format, before, after }));
      return EXIT.good;
    }
    const changes = (['compat', 'refcounts'] as const)
      .filter((name) => before[name] !== after[name])
      .map((name) => `${name} ${String(before[name])} to ${String(after[name])}`);
    const name = visibleText(image);
    terminal.print(changes.length === 0 ? `${name}: already so` : `amended ${name}: ${changes.join(', ')}`);
    return EXIT.good;
  },
});
