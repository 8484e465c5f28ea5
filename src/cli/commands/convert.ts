/** `convert`: a disk in another format, sparse as it was, in one file whatever stood behind it. */

import { formatList, formatsWith, titleList } from '../../format/formats.ts';
import { DEFAULT_FORMAT } from '../../core/format-name.ts';
import { relative } from 'node:path';

import { formatSize } from '../../core/size.ts';
import { realOutputPath } from '../../device/temporary-file.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { dataFileName } from '../../format/image-shape.ts';
import { REFCOUNT_MODES } from '../../format/image-options.ts';
import { convertImage, type ConvertedImage, type ConvertOptions } from '../../image/convert-image.ts';
import { hostImage } from '../../image/host-image.ts';
import { BACKING_OPTIONS, backingPolicy, DATA_FILE_PATH, FORCE_SHARE } from '../options/backing-options.ts';
import { defineCommand } from '../grammar/command.ts';
import { examples } from '../grammar/examples.ts';
import { changesImage, makes, OVERWRITE_OPTIONS, readsImage } from '../options/file-uses.ts';
import { EXIT } from '../terminal/exit-code.ts';
import { Interrupted, Interruption } from '../terminal/interruption.ts';
import { imageShape, refuseRefcounts, SHAPE_OPTIONS } from '../options/layout-options.ts';
import { flag, inGroup, optional, preset } from '../options/option-kinds.ts';
import { choice, clusterSize, text } from '../options/option-values.ts';
import { ProgressBar } from '../terminal/progress-bar.ts';
import { UsageError } from '../terminal/usage-error.ts';

export const convertCommand = defineCommand({
  options: (yargs) =>
    yargs
      .positional('in', { type: 'string', demandOption: true, describe: titleList() })
      .positional('out', { type: 'string', demandOption: true, describe: 'Image file to create' })
      .options(
        inGroup('Convert:', {
          from: optional('Format of IN; default: detected from the content', choice('from', FORMATS)),
          to: preset(`Format of OUT: ${formatList()}`, choice('to', FORMATS), DEFAULT_FORMAT),
          'cluster-size': optional(
            'Cluster size of OUT in bytes, a power of two; default 64KiB',
            clusterSize('cluster-size'),
          ),
          refcounts: optional('qcow2: eager (default) or lazy', choice('refcounts', REFCOUNT_MODES)),
          snapshot: optional('Convert this internal snapshot, by ID or name', text('snapshot')),
          'keep-backing': flag("OUT is an overlay of IN's backing file: copy only what IN itself holds"),
          compress: flag('qcow2: write compressed clusters'),
          'in-place': flag('Write to the existing image or block device OUT; its size and layout stay'),
          ...OVERWRITE_OPTIONS,
          'force-share': FORCE_SHARE,
          json: flag('Print a summary as JSON'),
        }),
      )
      .options(SHAPE_OPTIONS)
      .options(BACKING_OPTIONS)
      .options(DATA_FILE_PATH)
      .epilogue(
        examples([
          ['convert disk.raw disk.qcow2', 'a raw disk as qcow2'],
          ['convert top.qcow2 flat.raw --to raw', 'flatten an overlay and its backing chain to raw'],
          ['convert disk.qcow2 old.qcow2 --snapshot before-upgrade', 'the disk as a snapshot has it'],
          ['convert disk.qcow2 small.qcow2 --compress --compression-type zstd', 'compressed clusters'],
          ['convert disk.qcow2 /dev/vg/disk --to raw --in-place', 'the disk on an existing block device'],
        ]),
      ),

  files: (args) => {
    const { in: from, out, 'data-file': dataFile = 'none' } = args;
    const source = readsImage('IN', from, { format: args.from, backing: backingPolicy(args) });
    if (args['in-place']) return [...source, ...changesImage('OUT', out, { format: args.to })];
    return [
      ...source,
      ...makes('image', 'OUT', out),
      ...makes('image', '--data-file', dataFile === 'none' ? undefined : dataFileName(realOutputPath(out))),
    ];
  },

  run: async (args, terminal) => {
    const { in: from, to } = args;
    // What a link leads to is replaced, as qemu-img does, and not the link.
    const out = realOutputPath(args.out);
    const withClusters = formatsWith((facts) => facts.clusterSizes !== undefined);
    if (!withClusters.includes(to) && args['cluster-size'] !== undefined) {
      throw new UsageError(`--cluster-size: ${to} has no clusters; use it with ${formatList(withClusters)}`);
    }
    refuseRefcounts(args.refcounts, to);
    const compressing = formatsWith((facts) => facts.hasCompression);
    if (!compressing.includes(to) && args.compress) {
      throw new UsageError(
        `--compress: ${to} has no compressed clusters; use it with ${formatList(compressing)}`,
      );
    }
    if (args['in-place']) refuseNewLayout(args);
    using bar = new ProgressBar(terminal.errors);
    using interruption = new Interruption(terminal, () => bar.clear());
    const options: ConvertOptions = {
      source: {
        path: from,
        format: args.from,
        backing: backingPolicy(args),
        forceShare: args['force-share'],
        snapshot: args.snapshot,
      },
      target: {
        ...hostImage(out),
        format: to,
        clusterSize: args['cluster-size'],
        refcounts: args.refcounts,
        shape: imageShape(args, [to]),
        overwrite: args.overwrite,
        keepBacking: args['keep-backing'],
        inPlace: args['in-place'],
      },
      compress: args.compress,
      onProgress: (done, total) => {
        if (!interruption.signal.aborted) bar.show('converting', total === 0 ? 1 : done / total);
      },
      signal: interruption.signal,
    };
    let converted: ConvertedImage;
    try {
      converted = await convertImage(options);
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      const left = args['in-place'] ? 'is written in part: convert again' : 'is unchanged';
      terminal.warn(`qcow2-bench: conversion interrupted: ${args.out} ${left}`);
      return EXIT.interrupted;
    }
    bar.clear();
    terminal.print(
      args.json ? JSON.stringify(convertedJson(args.out, to, converted)) : convertedText(args, converted),
    );
    return EXIT.good;
  },
});

/** An existing image keeps the layout that it has. */
function refuseNewLayout(args: Readonly<Record<string, unknown>>): void {
  const names = [
    'cluster-size',
    'refcounts',
    'keep-backing',
    'compress',
    'overwrite',
    ...Object.keys(SHAPE_OPTIONS),
  ];
  const given = names.find((name) => args[name] !== undefined && args[name] !== false);
  if (given !== undefined) {
    throw new UsageError(`--${given} is for a new image; omit it, or --in-place`);
  }
}

function convertedText(
  {
    out,
    to,
    'in-place': inPlace,
  }: { readonly out: string; readonly to: string; readonly 'in-place': boolean },
  { sourceFormat, virtualSize, copiedBytes }: ConvertedImage,
): string {
  const verb = inPlace ? 'wrote to' : 'created';
  return `${verb} ${relative('', out)}: ${to} from ${sourceFormat}, ${formatSize(virtualSize)}, ${formatSize(copiedBytes)} of data copied`;
}

function convertedJson(out: string, to: string, converted: ConvertedImage): Record<string, unknown> {
  const { sourceFormat, virtualSize, copiedBytes } = converted;
  return {
    filename: out,
    format: to,
    'source-format': sourceFormat,
    'virtual-size': virtualSize,
    'copied-bytes': copiedBytes,
  };
}
