/** `map`: where every byte of a disk comes from, in the words and figures of `qemu-img map`. */

import { Qcow2BenchError } from '../../core/error.ts';
import { visibleText } from '../../core/visible-text.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { formatList, titleList } from '../../format/formats.ts';
import { imageExtents, type ImageExtent } from '../../image/image-extents.ts';
import { openChain } from '../../image/open-chain.ts';
import { BACKING_OPTIONS, backingPolicy, DATA_FILE_PATH, FORCE_SHARE } from '../options/backing-options.ts';
import { defineCommand } from '../grammar/command.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { readsImage } from '../options/file-uses.ts';
import { flag, inGroup, optional } from '../options/option-kinds.ts';
import { choice } from '../options/option-values.ts';
import type { Terminal } from '../terminal/terminal.ts';

/** Columns of a figure in the table. */
const FIGURE_WIDTH = 16;

export const mapCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('image', { type: 'string', demandOption: true, describe: titleList() })
      .options(
        inGroup('Map:', {
          format: optional(`${formatList()}; default: detected from the content`, choice('format', FORMATS)),
          'force-share': FORCE_SHARE,
          json: flag('Print every extent as JSON, like qemu-img map --output=json'),
        }),
      )
      .options(BACKING_OPTIONS)
      .options(DATA_FILE_PATH),

  files: (args) => readsImage('IMAGE', args.image),

  run: async (args, terminal) => {
    const { image, names } = await openChain({
      path: args.image,
      format: args.format,
      backing: backingPolicy(args),
      forceShare: args['force-share'],
    });
    try {
      await (args.json
        ? printJson(imageExtents(image), terminal)
        : printTable(imageExtents(image), names, terminal));
    } finally {
      await image.abandon();
    }
    return EXIT.good;
  },
});

async function printJson(extents: AsyncIterable<ImageExtent>, terminal: Terminal): Promise<void> {
  // One line is held back, for what ends it depends on whether another follows.
  let before: string | undefined;
  for await (const extent of extents) {
    if (before !== undefined) terminal.print(`${before},`);
    before = `${before === undefined ? '[' : ''}${extentJson(extent)}`;
  }
  terminal.print(`${before ?? '['}]`);
}

/** The fields and spaces of `qemu-img map --output=json`, as of QEMU 8.2 and newer. */
function extentJson(extent: ImageExtent): string {
  const { start, length, depth, present, zero, data, compressed, hostOffset } = extent;
  const fields = { start, length, depth, present, zero, data, compressed };
  const named = Object.entries({ ...fields, ...(hostOffset === undefined ? {} : { offset: hostOffset }) });
  return `{ ${named.map(([name, value]) => `"${name}": ${String(value)}`).join(', ')}}`;
}

/** Data alone, as `qemu-img map` lists them. */
async function printTable(
  extents: AsyncIterable<ImageExtent>,
  names: readonly string[],
  terminal: Terminal,
): Promise<void> {
  terminal.print(row('Offset', 'Length', 'Mapped to', 'File'));
  for await (const { start, length, depth, zero, data, hostOffset } of extents) {
    if (!data || zero) continue;
    if (hostOffset === undefined) {
      throw new Qcow2BenchError(
        'map-compressed',
        'has compressed clusters, which have no host offset of their own; list them with --json',
        { path: names[depth] },
      );
    }
    terminal.print(row(figure(start), figure(length), figure(hostOffset), names[depth] ?? ''));
  }
}

function row(offset: string, length: string, hostOffset: string, file: string): string {
  return [offset, length, hostOffset].map((text) => text.padEnd(FIGURE_WIDTH)).join('') + visibleText(file);
}

function figure(bytes: number): string {
  return bytes === 0 ? '0' : `0x${bytes.toString(16)}`;
}
