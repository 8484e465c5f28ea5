/**
 * Opening one image file without those behind it: what `info` and `check` need, and all that an
 * image from a stranger should get.
 *
 * Invariants: no file but the one named is opened, unless the caller opens the data file; an image
 * that is opened read-only or for a check is not repaired on the way.
 */

import type { BlockDevice } from '../device/block-device.ts';
import { MemoryDevice } from '../device/memory-device.ts';
import type { BackingReference, OpenBacking, OpenDataFile, OpenOptions } from '../format/image-options.ts';
import { openQcow2 } from '../format/qcow2/open.ts';
import type { Qcow2Image } from '../format/qcow2/qcow2-image.ts';
import { openQed } from '../format/qed/open.ts';
import type { QedImage } from '../format/qed/qed-image.ts';
import { openRaw } from '../format/raw/raw-image.ts';

export interface LoneOptions {
  /** Closed with the image, and by a failed open. */
  readonly device: BlockDevice;
  readonly readOnly: boolean;
  /**
   * For a check: tables of qcow2 that are broken or cut off are its findings, and no reason to
   * refuse the image.
   */
  readonly forCheck?: boolean | undefined;
  /** Default: an empty file is used as the data file. */
  readonly openDataFile?: OpenDataFile | undefined;
}

export interface LoneImage<Image> {
  readonly image: Image;
  /** What the image says it is backed by. */
  readonly backing: BackingReference | undefined;
}

/** @throws Qcow2BenchError of the format. */
export function openLoneQcow2(options: LoneOptions): Promise<LoneImage<Qcow2Image>> {
  return openAlone(options, openQcow2);
}

/** @throws Qcow2BenchError of the format. */
export function openLoneQed(options: LoneOptions): Promise<LoneImage<QedImage>> {
  return openAlone(options, openQed);
}

async function openAlone<Image>(
  options: LoneOptions,
  open: (options: OpenOptions) => Promise<Image>,
): Promise<LoneImage<Image>> {
  let backing: BackingReference | undefined;
  const openBacking: OpenBacking = (reference) => {
    backing = reference;
    // Replaces the data file, which is not opened: guest data is not read here.
    return openRaw({ device: new MemoryDevice(), readOnly: true, readPurpose: 'backing-read', openBacking });
  };
  const openDataFile: OpenDataFile = options.openDataFile ?? (() => new MemoryDevice({ label: 'data' }));
  const image = await open({ ...options, readPurpose: 'data', openBacking, openDataFile });
  return { image, backing };
}
