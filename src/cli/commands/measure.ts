/** `measure`: how large an image file would get, in the words and figures of `qemu-img measure`. */

import { DEFAULT_FORMAT } from '../../core/format-name.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { formatList, formatsWith } from '../../format/formats.ts';
import { measureFile, measureImage, type MeasuredTarget } from '../../image/measure-image.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { BACKING_OPTIONS, backingPolicy, DATA_FILE_PATH, FORCE_SHARE } from '../options/backing-options.ts';
import { readsImage } from '../options/file-uses.ts';
import { imageShape, MEASURED_OPTIONS, refuseOthersOption } from '../options/layout-options.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { choice, clusterSize, size, text } from '../options/option-values.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { UsageError } from '../terminal/usage-error.ts';

const DEFAULT_CLUSTER_SIZE = 64 * 1024;

export const measureCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', describe: 'Image whose data is to be held; or use --size' })
      .options(
        inGroup('Measure:', {
          size: optional('Virtual size of an empty disk: 10GiB …', size('size')),
          to: preset(`Format to measure: ${formatList()}`, choice('to', FORMATS), DEFAULT_FORMAT),
          'cluster-size': optional(
            'Cluster size in bytes, a power of two; default 64KiB',
            clusterSize('cluster-size'),
          ),
          from: optional('Format of IMAGE; default: detected from the content', choice('from', FORMATS)),
          snapshot: optional('Measure this internal snapshot, by ID or name', text('snapshot')),
          'force-share': FORCE_SHARE,
          json: flag('Print the sizes as JSON, with the field names of qemu-img measure'),
        }),
      )
      .options(MEASURED_OPTIONS)
      .options(BACKING_OPTIONS)
      .options(DATA_FILE_PATH)
      .epilogue(
        examples([
          ['measure --size 100GiB --cluster-size 2MiB', 'how much metadata a disk gets'],
          ['measure disk.raw', 'how large its qcow2 copy would be'],
        ]),
      ),

  files: (args) => readsImage('IMAGE', args.image, { format: args.from, backing: backingPolicy(args) }),

  run: async (args, terminal) => {
    const { image: path, to } = args;
    if ((path === undefined) === (args.size === undefined)) {
      throw new UsageError('give an IMAGE or --size, and not both');
    }
    if (path === undefined && args.snapshot !== undefined) throw new UsageError('--snapshot needs an IMAGE');
    if (args['cluster-size'] !== undefined) {
      refuseOthersOption(
        'cluster-size',
        to,
        formatsWith((facts) => facts.clusterSizes !== undefined),
      );
    }
    const target: MeasuredTarget = {
      format: to,
      clusterSize: args['cluster-size'] ?? DEFAULT_CLUSTER_SIZE,
      shape: imageShape({ ...args, 'node-size': undefined }, [to]),
    };
    const measured =
      path === undefined
        ? await measureImage(args.size ?? 0, target)
        : await measureFile(
            {
              path,
              format: args.from,
              backing: backingPolicy(args),
              forceShare: args['force-share'],
              snapshot: args.snapshot,
            },
            target,
          );
    const { required, fullyAllocated } = measured;
    terminal.print(
      args.json
        ? JSON.stringify({ required, 'fully-allocated': fullyAllocated })
        : `required size: ${String(required)}\nfully allocated size: ${String(fullyAllocated)}`,
    );
    return EXIT.good;
  },
});
