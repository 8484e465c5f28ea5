/** The options that say which files behind an image may be opened, and the policy they make. */

import type { BackingPolicy } from '../format/backing-chain.ts';
import { FORMATS, type Format } from '../format/disk-image.ts';
import { flag, inGroup, optional } from './option-kinds.ts';
import { choice, text } from './option-values.ts';

export const BACKING_OPTIONS = inGroup('Backing files:', {
  'backing-dir': optional(
    "Files behind the image must lie below this directory; default: the image's own",
    text('backing-dir'),
  ),
  'any-backing': flag('Files behind the image may lie anywhere'),
  'backing-format': optional(
    'Format of files behind the image for which it names none; it is never guessed',
    choice('backing-format', FORMATS),
  ),
});

/** Of commands that read an image. */
export const FORCE_SHARE = flag(
  'Read images although other processes write to them: what is read may be inconsistent',
);

export function backingPolicy(args: {
  readonly 'backing-dir': string | undefined;
  readonly 'any-backing': boolean;
  readonly 'backing-format': Format | undefined;
}): BackingPolicy {
  return {
    allowedDirectory: args['backing-dir'],
    allowAnywhere: args['any-backing'],
    unnamedFormat: args['backing-format'],
  };
}
