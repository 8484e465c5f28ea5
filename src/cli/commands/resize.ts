/** `resize`: a disk of another size, as `qemu-img resize` makes it. */

import { Qcow2BenchError } from '../../core/error.ts';
import { formatSize, parseSize } from '../../core/size.ts';
import { visibleText } from '../../core/visible-text.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { formatList } from '../../format/formats.ts';
import { PREALLOCATIONS } from '../../format/image-shape.ts';
import { WRITABLE_HOST_FILES } from '../../image/host-image.ts';
import { formatOfFile } from '../../image/open-chain.ts';
import { resizeImage, type NewSize } from '../../image/resize-image.ts';
import { BACKING_OPTIONS, backingPolicy, DATA_FILE_PATH } from '../options/backing-options.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { changesImage } from '../options/file-uses.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { choice } from '../options/option-values.ts';
import { UsageError } from '../terminal/usage-error.ts';

export const resizeCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', {
        type: 'string',
        demandOption: true,
        describe: 'A raw, qcow2, QED or B-tree image',
      })
      .positional('size', {
        type: 'string',
        demandOption: true,
        describe: 'New virtual size: 10GiB …; or a relative one: +1GiB, -1GiB',
      })
      .options(
        inGroup('Resize:', {
          shrink: flag('Allow shrinking: data beyond the new end is lost'),
          preallocation: preset(
            'Preallocation of the added space: off, metadata (qcow2), falloc or full',
            choice('preallocation', PREALLOCATIONS),
            'off',
          ),
          format: optional(`${formatList()}; default: detected from the content`, choice('format', FORMATS)),
          json: flag('Print the sizes as JSON'),
        }),
      )
      .options(BACKING_OPTIONS)
      .options(DATA_FILE_PATH)
      .epilogue(
        examples([
          ['resize disk.qcow2 +10GiB', 'grow; then enlarge the file system in the guest'],
          ['resize disk.qcow2 5GiB --shrink', 'shrink, after shrinking the file system in the guest'],
        ]),
      ),

  files: (args) => changesImage('IMAGE', args.image),

  run: async (args, terminal) => {
    const { image, json, shrink, preallocation } = args;
    const size = newSize(args.size);
    const format = args.format ?? (await formatOfFile(image));
    const { before, virtualSize } = await resizeImage({
      name: image,
      format,
      files: WRITABLE_HOST_FILES,
      backing: backingPolicy(args),
      size,
      shrink,
      preallocation,
    });
    if (json) {
      const sizes = { 'virtual-size': virtualSize, 'virtual-size-before': before };
      terminal.print(JSON.stringify({ filename: image, format, ...sizes }));
    } else {
      terminal.print(
        `resized ${visibleText(image)}: ${format}, ${formatSize(before)} to ${formatSize(virtualSize)}`,
      );
    }
    return EXIT.good;
  },
});

/** Of `10GiB`, `+1GiB` or `-1GiB`. */
function newSize(given: string): NewSize {
  const sign = /^[+-]/.exec(given)?.[0];
  let bytes: number;
  try {
    bytes = parseSize(given.slice(sign?.length ?? 0));
  } catch (error) {
    if (!(error instanceof Qcow2BenchError)) throw error;
    throw new UsageError(`SIZE '${given}': ${error.message}; use + or - for a relative size`);
  }
  if (sign === undefined) return { to: bytes };
  return { by: sign === '+' ? bytes : -bytes };
}
