/** `bitmap`: a persistent dirty bitmap of a qcow2 image, as `qemu-img bitmap` changes it. */

import { visibleText } from '../../core/visible-text.ts';
import type { BitmapChange } from '../../format/disk-image.ts';
import { changeBitmap } from '../../image/change-bitmap.ts';
import { WRITABLE_HOST_FILES } from '../../image/host-image.ts';
import { formatOfFile } from '../../image/open-chain.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { BACKING_OPTIONS, backingPolicy, DATA_FILE_PATH } from '../options/backing-options.ts';
import { changesImage } from '../options/file-uses.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { size, text } from '../options/option-values.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { UsageError } from '../terminal/usage-error.ts';

const ACTIONS = ['add', 'remove', 'clear', 'enable', 'disable', 'merge'] as const;

const DONE = {
  add: 'added',
  remove: 'removed',
  clear: 'cleared',
  enable: 'enabled',
  disable: 'disabled',
  merge: 'merged into',
} as const satisfies Record<BitmapChange['action'], string>;

export const bitmapCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', demandOption: true, describe: 'A qcow2 image' })
      .options(
        inGroup('Bitmap:', {
          add: optional('Add a bitmap of this name; it follows every write from now on', text('add')),
          granularity: optional(
            'With --add: bytes of one bit, a power of two; default: a cluster, at least 4KiB',
            size('granularity'),
          ),
          remove: optional('Remove this bitmap', text('remove')),
          clear: optional('Forget all that this bitmap recorded', text('clear')),
          enable: optional('Let this bitmap follow writes', text('enable')),
          disable: optional('Keep this bitmap as it is', text('disable')),
          merge: optional('Add to this bitmap what the one of --source has recorded', text('merge')),
          source: optional('With --merge: another bitmap of the image, of any granularity', text('source')),
          json: flag('Print what was done as JSON'),
        }),
      )
      .options(BACKING_OPTIONS)
      .options(DATA_FILE_PATH)
      .epilogue(
        examples([
          ['bitmap disk.qcow2 --add since-monday', 'record what is written from now on'],
          ['bitmap disk.qcow2 --merge since-monday --source since-friday', 'one with the changes of both'],
          ['info disk.qcow2', 'list the bitmaps'],
        ]),
      ),

  files: (args) => changesImage('IMAGE', args.image),

  run: async (args, terminal) => {
    const { image } = args;
    const change = askedChange(args, image);
    await changeBitmap({
      name: image,
      format: await formatOfFile(image),
      files: WRITABLE_HOST_FILES,
      backing: backingPolicy(args),
      change,
    });
    const { action, name } = change;
    terminal.print(
      args.json
        ? JSON.stringify({ filename: image, action, bitmap: name })
        : visibleText(`${DONE[action]} bitmap '${name}' of ${image}`),
    );
    return EXIT.good;
  },
});

type Asked = Readonly<Record<(typeof ACTIONS)[number], string | undefined>> & {
  readonly granularity: number | undefined;
  readonly source: string | undefined;
};

function askedChange(args: Asked, image: string): BitmapChange {
  const [action, ...others] = ACTIONS.filter((each) => args[each] !== undefined);
  if (action === undefined || others.length > 0) {
    const options = ACTIONS.map((each) => `--${each}`).join(', ');
    throw new UsageError(
      `give one of ${options} for ${visibleText(image)}; info lists the bitmaps of an image`,
    );
  }
  const { granularity, source, [action]: name = '' } = args;
  if (source !== undefined && action !== 'merge') throw new UsageError('--source needs --merge');
  if (action === 'add') return { action, name, granularity };
  if (granularity !== undefined) throw new UsageError('--granularity needs --add');
  if (action === 'merge') {
    if (source === undefined) throw new UsageError('--merge needs --source, the bitmap to take from');
    return { action, name, source };
  }
  return { action, name };
}
