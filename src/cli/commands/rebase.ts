/** `rebase`: another backing file under an image, or none, as `qemu-img rebase` puts it there. */

import { dirname, resolve } from 'node:path';

import { formatSize } from '../../core/size.ts';
import { visibleText } from '../../core/visible-text.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { formatOfFile } from '../../image/open-chain.ts';
import { rebaseImage, type RebasedImage } from '../../image/rebase-image.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { backingPolicy, DATA_FILE_OPTIONS } from '../options/backing-options.ts';
import { changesImage, readsImage } from '../options/file-uses.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { choice, text } from '../options/option-values.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import { UsageError } from '../terminal/usage-error.ts';

export const rebaseCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', demandOption: true, describe: 'A qcow2 image' })
      .options(
        inGroup('Rebase:', {
          backing: optional("The new backing file (relative to the image's directory)", text('backing')),
          'backing-format': optional('Its format; never detected', choice('backing-format', FORMATS)),
          flatten: flag('No backing file: copy all that the image reads from its backing chain'),
          unsafe: flag('Only name the new file, which must read as the old one; nothing is compared'),
          json: flag('Print a summary as JSON'),
        }),
      )
      .options(DATA_FILE_OPTIONS)
      .epilogue(
        examples([
          ['rebase top.qcow2 --backing base.raw --backing-format raw', 'skip the images between'],
          ['rebase top.qcow2 --backing moved/base.raw --backing-format raw --unsafe', 'after a move'],
          ['rebase top.qcow2 --flatten', 'an image of its own'],
        ]),
      ),

  files: (args) => [
    ...changesImage('IMAGE', args.image),
    ...readsImage(
      '--backing',
      args.backing === undefined ? undefined : resolve(dirname(args.image), args.backing),
      { format: args['backing-format'], backing: backingPolicy(args) },
    ),
  ],

  run: async (args, terminal) => {
    const { image, unsafe, json } = args;
    const backing = newBacking(args);
    using bar = new ProgressBar(terminal.errors);
    using interruption = new Interruption(terminal, () => bar.clear());
    const format = await formatOfFile(image);
    let rebased: RebasedImage;
    try {
      rebased = await rebaseImage({
        path: image,
        format,
        policy: backingPolicy(args),
        backing,
        unsafe,
        onProgress: (done, total) => {
          if (!interruption.signal.aborted) bar.show('comparing', total === 0 ? 1 : done / total);
        },
        signal: interruption.signal,
      });
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      terminal.warn(
        `qcow2-bench: rebase interrupted: ${image} is over its old backing file, and reads as before`,
      );
      return EXIT.interrupted;
    }
    bar.clear();
    const { copiedBytes } = rebased;
    if (json) {
      const named = { 'backing-filename': backing?.name ?? null, 'copied-bytes': copiedBytes };
      terminal.print(JSON.stringify({ filename: image, format, ...named }));
    } else {
      const place = backing === undefined ? 'has no backing file' : `is over ${backing.name}`;
      terminal.print(visibleText(`${image} ${place}: ${formatSize(copiedBytes)} copied into it`));
    }
    return EXIT.good;
  },
});

interface Asked {
  readonly image: string;
  readonly backing: string | undefined;
  readonly 'backing-format': (typeof FORMATS)[number] | undefined;
  readonly flatten: boolean;
}

function newBacking(
  args: Asked,
): { readonly name: string; readonly format: (typeof FORMATS)[number] } | undefined {
  const { image, backing: name, 'backing-format': format, flatten } = args;
  if ((name !== undefined) === flatten) {
    throw new UsageError(`give --backing or --flatten for ${visibleText(image)}, and not both`);
  }
  if (name === undefined) {
    if (format === undefined) return undefined;
    throw new UsageError('--backing-format needs --backing');
  }
  if (format !== undefined) return { name, format };
  throw new UsageError(
    `--backing needs --backing-format (${FORMATS.join(', ')}): the format is never detected`,
  );
}
