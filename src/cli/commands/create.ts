/** `create`: an empty image, never over a file that is there unless that was asked for. */

import { formatList, formatsWith } from '../../format/formats.ts';
import { DEFAULT_FORMAT } from '../../core/format-name.ts';
import { basename, dirname, resolve } from 'node:path';

import { Qcow2BenchError } from '../../core/error.ts';
import { formatSize } from '../../core/size.ts';
import { visibleText } from '../../core/visible-text.ts';
import { realOutputPath } from '../../device/temporary-file.ts';
import { FORMATS, type Format } from '../../format/disk-image.ts';
import { REFCOUNT_MODES, type RefcountMode } from '../../format/image-options.ts';
import { dataFileName, type DataFileKind } from '../../format/image-shape.ts';
import { createImageFile, type CreateImageFileOptions, type NewBacking } from '../../image/create-image.ts';
import { SHARED_HOST_FILES, hostImage } from '../../image/host-image.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { makes, OVERWRITE_OPTIONS, readsImage } from '../options/file-uses.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { imageShape, refuseOthersOption, refuseRefcounts, SHAPE_OPTIONS } from '../options/layout-options.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { choice, size, text } from '../options/option-values.ts';
import { UsageError } from '../terminal/usage-error.ts';

export const createCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', demandOption: true, describe: 'Image file to create' })
      .positional('size', {
        type: 'string',
        describe: "Virtual size: 10GiB, 512MiB …; default: the backing file's size",
      })
      .options(
        inGroup('Image:', {
          format: preset(formatList(), choice('format', FORMATS), DEFAULT_FORMAT),
          'cluster-size': optional(
            'Cluster size in bytes, a power of two; default 64KiB',
            size('cluster-size'),
          ),
          refcounts: optional('qcow2: eager (default) or lazy', choice('refcounts', REFCOUNT_MODES)),
          backing: optional(
            "Create an overlay of this backing file (relative to the image's directory)",
            text('backing'),
          ),
          'backing-format': optional(
            'Format of the backing file; never detected',
            choice('backing-format', FORMATS),
          ),
          'data-file-name': optional(
            "With --data-file: name of the data file, relative to the image's directory; default: IMAGE.data",
            text('data-file-name'),
          ),
          ...OVERWRITE_OPTIONS,
          json: flag('Print a summary as JSON'),
        }),
      )
      .options(SHAPE_OPTIONS)
      .epilogue(
        examples([
          ['create disk.qcow2 10GiB --refcounts lazy', 'an image with lazy refcounts'],
          [
            'create top.qcow2 --backing base.raw --backing-format raw',
            'an overlay of the same size as its base',
          ],
        ]),
      ),

  files: (args) => {
    const { image, backing, 'data-file': kind = 'none' } = args;
    const besideImage = (name: string): string => resolve(dirname(image), name);
    return [
      ...makes('image', 'IMAGE', image),
      ...(kind === 'none' ? [] : makes('image', '--data-file', besideImage(dataFile(args)))),
      ...readsImage('--backing', backing === undefined ? undefined : besideImage(backing), {
        format: args['backing-format'],
        backing: { allowAnywhere: true },
      }),
    ];
  },

  run: async (args, terminal) => {
    const virtualSize = args.size === undefined ? undefined : size('SIZE')(args.size);
    const backing = newBacking(args);
    validateOptions(args);
    const { virtualSize: made } = await asUsage(() =>
      createImageFile({
        // What a link leads to is replaced, and not the link.
        ...hostImage(realOutputPath(args.image)),
        format: args.format,
        virtualSize,
        clusterSize: args['cluster-size'],
        refcounts: args.refcounts,
        shape: imageShape(args, [args.format]),
        backing,
        dataFile: newDataFile(args),
        overwrite: args.overwrite,
      }),
    );
    if (args.json) {
      terminal.print(
        JSON.stringify({ filename: resolve(args.image), format: args.format, 'virtual-size': made }),
      );
    } else {
      terminal.print(`created ${visibleText(args.image)}: ${args.format}, ${formatSize(made)}`);
    }
    return EXIT.good;
  },
});

/** Which option a refusal of the library is about. */
const OPTION_OF_CODE: Readonly<Record<string, string>> = {
  'bad-cluster-size': '--cluster-size',
  'qcow2-needs-compat-1.1': '--compat',
  'qcow2-preallocated-overlay': '--preallocation',
  'qcow2-raw-data-file-overlay': '--data-file',
  'raw-no-metadata': '--preallocation',
  'qcow2-cluster-too-small': '--extended-l2',
  'qed-bad-cluster-size': '--cluster-size',
  'qed-table-too-large': '--cluster-size',
  'bad-size': 'SIZE',
  'qed-bad-image-size': 'SIZE',
};

/** What the format refuses of the options given is a matter of usage. */
async function asUsage<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const option = error instanceof Qcow2BenchError ? OPTION_OF_CODE[error.code] : undefined;
    if (option === undefined || !(error instanceof Qcow2BenchError)) throw error;
    throw new UsageError(`${option}: ${error.message}`, { cause: error });
  }
}

function newDataFile(args: {
  readonly image: string;
  readonly 'data-file': DataFileKind | undefined;
  readonly 'data-file-name': string | undefined;
}): CreateImageFileOptions['dataFile'] {
  const { image, 'data-file': kind = 'none', 'data-file-name': name } = args;
  if (kind === 'none') {
    if (name === undefined) return undefined;
    throw new UsageError('--data-file-name needs --data-file plain or raw');
  }
  const stored = dataFile(args);
  return { ...hostImage(realOutputPath(resolve(dirname(image), stored))), stored };
}

function dataFile(args: { readonly image: string; readonly 'data-file-name': string | undefined }): string {
  return args['data-file-name'] ?? basename(dataFileName(args.image));
}

interface Asked {
  readonly size: string | undefined;
  readonly format: Format;
  readonly 'cluster-size': number | undefined;
  readonly refcounts: RefcountMode | undefined;
  readonly backing: string | undefined;
}

function validateOptions(args: Asked): void {
  const { format } = args;
  if (args.size === undefined && args.backing === undefined) {
    throw new UsageError('SIZE is missing; it is optional only with --backing');
  }
  refuseRefcounts(args.refcounts, format);
  if (args['cluster-size'] !== undefined) {
    refuseOthersOption(
      'cluster-size',
      format,
      formatsWith((facts) => facts.clusterSizes !== undefined),
    );
  }
  if (args.backing !== undefined) {
    refuseOthersOption(
      'backing',
      format,
      formatsWith((facts) => facts.backing !== 'none'),
    );
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
    throw new UsageError('--backing-format needs --backing');
  }
  if (format === undefined) {
    throw new UsageError(
      `--backing needs --backing-format (${FORMATS.join(', ')}): the format is never detected`,
    );
  }
  return { name, format, path: resolve(dirname(args.image), name), files: SHARED_HOST_FILES };
}
