/**
 * One image file without those behind it: what `info` and `check` need, and all that an image from
 * a stranger should get.
 *
 * Invariants: no file but the one given is opened, unless the caller opens the data file; an image
 * that is opened read-only or for a check is not repaired on the way.
 */

import { MemoryDevice } from '../device/memory-device.ts';
import type { BlockDevice } from '../device/block-device.ts';
import type { LoneFile } from './format-facts.ts';
import type { BackingReference, OpenBacking, OpenDataFile } from './image-options.ts';
import { openRaw } from './raw/raw-image.ts';

export interface LoneFileOptions {
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  /**
   * For a check: tables that are broken or cut off are its findings, and no reason to refuse the
   * image.
   */
  readonly forCheck?: boolean | undefined;
  /** Default: an empty file is used as the data file. */
  readonly openDataFile?: OpenDataFile | undefined;
}

/** Gives an image an empty disk in place of its backing file, whose data is not read then. */
export const openEmptyBacking: OpenBacking = () =>
  Promise.resolve(
    openRaw({
      device: new MemoryDevice(),
      readOnly: true,
      readPurpose: 'backing-read',
      openBacking: openEmptyBacking,
    }),
  );

export function loneFile({ device, readOnly, forCheck, openDataFile }: LoneFileOptions): LoneFile {
  let backing: BackingReference | undefined;
  const openBacking: OpenBacking = (reference) => {
    backing = reference;
    return openEmptyBacking(reference);
  };
  return {
    device,
    options: {
      device,
      readOnly,
      forCheck,
      readPurpose: 'data',
      openBacking,
      openDataFile: openDataFile ?? (() => new MemoryDevice({ label: 'data' })),
    },
    backing: () => backing,
  };
}
