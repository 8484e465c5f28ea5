/** `create`: an empty image, never over a file that is there unless that was asked for. */

import { dirname, resolve } from 'node:path';

import { formatSize } from '../../core/size.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { REFCOUNT_MODES } from '../../format/image-options.ts';
import { createImageFile, type CreateImageFileOptions, type NewBacking } from '../../image/create-image.ts';
import { HOST_FILES, hostImage } from '../../image/host-image.ts';
import { defineCommand } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { flag, optional, preset } from '../option-kinds.ts';
import { choice, size, text } from '../option-values.ts';
import { UsageError } from '../usage-error.ts';

export const createCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', demandOption: true, describe: 'The file to make' })
      .positional('size', {
        type: 'string',
        describe: "What the guest sees: 10GiB, 512MiB …; default: the backing file's size",
      })
      .options({
        format: preset('raw, qcow2 or qed', choice('format', FORMATS), 'qcow2'),
        'cluster-size': optional('Bytes of a cluster, a power of two; default 64KiB', size('cluster-size')),
        refcounts: optional('qcow2: eager (default) or lazy', choice('refcounts', REFCOUNT_MODES)),
        backing: optional(
          "Make an overlay over this file (relative to the image's directory)",
          text('backing'),
        ),
        'backing-format': optional(
          'Format of the backing file; it is never guessed',
          choice('backing-format', FORMATS),
        ),
        preallocation: preset('off is all there is yet', choice('preallocation', ['off']), 'off'),
        overwrite: flag('Replace a file that is there'),
        json: flag('Print what was made as JSON'),
      })
      .example('$0 create disk.qcow2 10GiB --refcounts lazy', '')
      .example('$0 create top.qcow2 --backing base.raw --backing-format raw', ''),

  run: async (args, terminal) => {
    const options = {
      ...hostImage(args.image, 'write'),
      format: args.format,
      virtualSize: args.size === undefined ? undefined : readSize(args.size),
      clusterSize: args['cluster-size'],
      refcounts: args.refcounts,
      backing: newBacking(args),
      overwrite: args.overwrite,
    } satisfies CreateImageFileOptions;
    if (options.virtualSize === undefined && options.backing === undefined) {
      throw new UsageError('SIZE is missing: only an image with --backing takes its size from there');
    }
    const { path, virtualSize } = await createImageFile(options);
    if (args.json) {
      terminal.answer(JSON.stringify({ filename: path, format: args.format, 'virtual-size': virtualSize }));
    } else {
      terminal.answer(`made ${args.image}: ${args.format}, ${formatSize(virtualSize)}`);
    }
    return EXIT.good;
  },
});

function readSize(given: string): number {
  try {
    return size('size')(given);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(error.message.replace('--size', 'SIZE'));
  }
}

function newBacking(args: {
  readonly image: string;
  readonly backing: string | undefined;
  readonly 'backing-format': NewBacking['format'] | undefined;
}): NewBacking | undefined {
  const { backing: name, 'backing-format': format } = args;
  if (name === undefined) {
    if (format === undefined) return undefined;
    throw new UsageError('--backing-format is of a backing file: name one with --backing');
  }
  if (format === undefined) {
    throw new UsageError(`--backing needs --backing-format (${FORMATS.join(', ')}): it is never guessed`);
  }
  return { name, format, path: resolve(dirname(args.image), name), files: HOST_FILES };
}
