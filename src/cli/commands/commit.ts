/** `commit`: what an overlay holds goes into its backing file, as with `qemu-img commit`. */

import { formatSize } from '../../core/size.ts';
import { visibleText } from '../../core/visible-text.ts';
import { commitImage, type CommittedImage } from '../../image/commit-image.ts';
import { formatOfFile } from '../../image/open-chain.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { BACKING_OPTIONS, backingPolicy } from '../options/backing-options.ts';
import { changesImage } from '../options/file-uses.ts';
import { flag, inGroup } from '../options/option-kinds.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';

export const commitCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', demandOption: true, describe: 'An overlay' })
      .options(
        inGroup('Commit:', {
          empty: flag('qcow2: empty the overlay afterwards, to go on with it'),
          json: flag('Print a summary as JSON'),
        }),
      )
      .options(BACKING_OPTIONS)
      .epilogue(
        examples([
          ['commit top.qcow2', 'then remove top.qcow2: the backing file reads the same'],
          ['commit top.qcow2 --empty', 'or go on writing to it'],
        ]),
      ),

  files: (args) => changesImage('IMAGE', args.image),

  run: async (args, terminal) => {
    const { image, empty, json } = args;
    using bar = new ProgressBar(terminal.errors);
    using interruption = new Interruption(terminal, () => bar.clear());
    let committed: CommittedImage;
    try {
      committed = await commitImage({
        path: image,
        format: await formatOfFile(image),
        policy: backingPolicy(args),
        empty,
        onProgress: (done, total) => {
          if (!interruption.signal.aborted) bar.show('committing', total === 0 ? 1 : done / total);
        },
        signal: interruption.signal,
      });
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      terminal.warn(
        `qcow2-bench: commit interrupted: ${image} reads as before; its backing file has a part of it: commit again`,
      );
      return EXIT.interrupted;
    }
    bar.clear();
    const { backing, copiedBytes } = committed;
    if (json) {
      const copied = { 'backing-filename': backing, 'copied-bytes': copiedBytes };
      terminal.print(JSON.stringify({ filename: image, ...copied }));
    } else {
      terminal.print(
        visibleText(
          `committed ${image} to ${backing}: ${formatSize(copiedBytes)}${empty ? '; it is empty now' : ''}`,
        ),
      );
    }
    return EXIT.good;
  },
});
