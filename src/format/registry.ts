/**
 * The formats by name: the one place that names raw, qcow2 and qed together. Opening and creating
 * go through here; everything above sees only `DiskImage`.
 */

import type { BlockDevice } from '../device/block-device.ts';
import {
  backingOpener,
  contentsOf,
  dataFileOpener,
  type BackingPolicy,
  type ImageFiles,
} from './backing-chain.ts';
import type { CacheSizes } from './cache-sizes.ts';
import type { DiskImage, Format } from './disk-image.ts';
import type {
  BrokenRule,
  CreateOptions,
  LayoutChoices,
  OpenDataFile,
  OpenOptions,
  DiscardMode,
  RefcountMode,
} from './image-options.ts';
import { createQcow2 } from './qcow2/create.ts';
import { impossibleLayout } from './qcow2/on-disk/layout-rules.ts';
import { openQcow2 } from './qcow2/open.ts';
import { createQed } from './qed/create.ts';
import { openQed } from './qed/open.ts';
import { createRaw, impossibleRaw, openRaw } from './raw/raw-image.ts';

interface FormatEntry {
  readonly open: (options: OpenOptions) => Promise<DiskImage>;
  readonly create: (options: CreateOptions) => Promise<void>;
  /** The first rule of the format that the choices break; left out where there are none. */
  readonly impossible?: (options: LayoutChoices) => BrokenRule | undefined;
}

const REGISTRY: Readonly<Record<Format, FormatEntry>> = {
  raw: { open: openRaw, create: createRaw, impossible: impossibleRaw },
  qcow2: { open: openQcow2, create: createQcow2, impossible: impossibleLayout },
  qed: { open: openQed, create: createQed },
};

export interface OpenImageOptions {
  /** Named by the caller; never guessed from content. */
  readonly format: Format;
  /** As `files` understands it; relative backing names are taken from its directory. */
  readonly name: string;
  readonly files: ImageFiles;
  readonly readOnly: boolean;
  /** Opened to get another size. Default false. */
  readonly forResize?: boolean | undefined;
  readonly backing?: BackingPolicy | undefined;
  /**
   * qcow2 only: a data file of the caller's choice, wherever it is, in place of the one that the
   * image names.
   */
  readonly dataFile?: string | undefined;
  /** Opened to be checked: nothing is repaired on the way. */
  readonly forCheck?: boolean | undefined;
  /** qcow2 only: overrides the image's lazy-refcounts bit for this opening. */
  readonly refcounts?: RefcountMode | undefined;
  /** qcow2 only: of its metadata caches; its backing files have QEMU's defaults. */
  readonly caches?: CacheSizes | undefined;
  /** As `OpenOptions` has it. */
  readonly discard?: DiscardMode | undefined;
}

/**
 * Opens an image with its backing chain; the chain is opened read-only and closed with the image.
 *
 * @throws Qcow2BenchError of `files`, the format, or the backing chain.
 */
export async function openImage(options: OpenImageOptions): Promise<DiskImage> {
  const { files, name, format, readOnly } = options;
  const chain = { files, name, policy: options.backing ?? {} };
  const openBacking = backingOpener({
    ...chain,
    openFormat: (format, device, next) =>
      REGISTRY[format].open({ device, readOnly: true, readPurpose: 'backing-read', ...next }),
  });
  const contents = options.forResize === true && format === 'raw' ? 'data' : contentsOf(format);
  const device: BlockDevice = files.open(name, { label: 'image', readOnly, contents });
  return REGISTRY[format].open({
    device,
    readOnly,
    readPurpose: 'data',
    openBacking,
    openDataFile: openDataFile(options, chain),
    forCheck: options.forCheck,
    refcounts: options.refcounts,
    caches: options.caches,
    discard: options.discard,
  });
}

function openDataFile(
  { files, name, readOnly, dataFile }: OpenImageOptions,
  chain: Parameters<typeof dataFileOpener>[0],
): OpenDataFile {
  if (dataFile !== undefined) {
    return () => files.open(dataFile, { label: 'data', readOnly, contents: 'data' });
  }
  return dataFileOpener(chain, { image: name, label: 'data', readOnly });
}

export interface CreateImageOptions extends CreateOptions {
  readonly format: Format;
}

/**
 * What the format says against an image with these choices, before anything is made; `undefined` if
 * nothing.
 */
export function impossibleImage(
  options: LayoutChoices & { readonly format: Format },
): BrokenRule | undefined {
  return REGISTRY[options.format].impossible?.(options);
}

/**
 * Writes an empty image over whatever `device` holds and syncs it; closing the device is left to
 * the caller.
 *
 * @throws Qcow2BenchError of the format, for sizes it does not take, or of the device.
 */
export async function createImage(options: CreateImageOptions): Promise<void> {
  await REGISTRY[options.format].create(options);
  await options.device.sync('close');
  await options.dataFile?.device.sync('close');
}
