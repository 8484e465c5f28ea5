/** The options that say which files behind an image may be opened, and the policy they make. */

import type { InferredOptionTypes } from 'yargs';

import type { BackingPolicy } from '../../format/backing-chain.ts';
import { FORMATS } from '../../format/disk-image.ts';
import { flag, inGroup, optional } from './option-kinds.ts';
import { choice, text } from './option-values.ts';

/** Of commands that open the data file alone. */
export const DATA_FILE_OPTIONS = inGroup('Backing files:', {
  'backing-dir': optional(
    "Open backing files only below this directory; default: the image's directory",
    text('backing-dir'),
  ),
  'any-backing': flag('Allow backing files anywhere'),
});

export const BACKING_OPTIONS = inGroup('Backing files:', {
  ...DATA_FILE_OPTIONS,
  'backing-format': optional(
    'Format of backing files for which the image names no supported format; never detected',
    choice('backing-format', FORMATS),
  ),
});

/** Of commands that open one image, wherever its data file is. */
export const DATA_FILE_PATH = inGroup('Backing files:', {
  'data-file-path': optional(
    'qcow2: where the external data file is, in place of the name in the image',
    text('data-file-path'),
  ),
});

/** Of commands that read an image. */
export const FORCE_SHARE = flag('Open images that other processes write to; reads may be inconsistent');

export type BackingArgs = InferredOptionTypes<typeof BACKING_OPTIONS>;
type DataFileArgs = InferredOptionTypes<typeof DATA_FILE_OPTIONS> &
  Partial<InferredOptionTypes<typeof DATA_FILE_PATH>>;

/** The first of the options that was given. */
export function givenBackingOption(args: BackingArgs): string | undefined {
  const names = ['backing-dir', 'any-backing', 'backing-format'] as const;
  return names.find((name) => args[name] !== undefined && args[name] !== false);
}

export function backingPolicy(args: DataFileArgs & Partial<BackingArgs>): BackingPolicy {
  return {
    allowedDirectory: args['backing-dir'],
    allowAnywhere: args['any-backing'],
    unnamedFormat: args['backing-format'],
    dataFile: args['data-file-path'],
  };
}
