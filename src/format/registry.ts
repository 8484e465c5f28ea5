/**
 * Opening and creating images of any format: everything above sees only `DiskImage`, and calls what
 * a format does with a file through here.
 */

import type { Format } from '../core/format-name.ts';
import type { BlockDevice } from '../device/block-device.ts';
import {
  backingOpener,
  contentsOf,
  dataFileOpener,
  withoutDataFile,
  type BackingPolicy,
  type ImageFiles,
} from './backing-chain.ts';
import type { DiskImage } from './disk-image.ts';
import { withContent } from './file-content.ts';
import type { FileLayout } from './file-layout.ts';
import type { FormatEngine, LoneFile } from './format-facts.ts';
import { FORMAT_FACTS } from './formats.ts';
import type {
  BrokenRule,
  CreateOptions,
  LayoutChoices,
  OpenBacking,
  OpenDataFile,
  OpenOptions,
  OpeningChoices,
} from './image-options.ts';
import { hasDataFile } from './image-shape.ts';
import { loneFile, type LoneFileOptions } from './lone-file.ts';

/** The choices are the image's; its backing files have QEMU's defaults. */
export interface OpenImageOptions extends OpeningChoices {
  /** Named by the caller; never guessed from content. */
  readonly format: Format;
  /** As `files` understands it; relative backing names are taken from its directory. */
  readonly name: string;
  readonly files: ImageFiles;
  readonly readOnly: boolean;
  /** Opened to get another size. Default false. */
  readonly forResize?: boolean | undefined;
  readonly backing?: BackingPolicy | undefined;
  /** Gives the image what it is over, in place of opening the file that it names. */
  readonly openBacking?: OpenBacking | undefined;
  /**
   * qcow2 only: a data file of the caller's choice, wherever it is, in place of the one that the
   * image names.
   */
  readonly dataFile?: string | undefined;
  /** Opened to be checked: nothing is repaired on the way. */
  readonly forCheck?: boolean | undefined;
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
      openAs(format, { device, readOnly: true, readPurpose: 'backing-read', ...next }),
  });
  const isDataAlone = options.forResize === true && contentsOf(format) === 'raw';
  const contents = isDataAlone ? 'data' : contentsOf(format);
  const device: BlockDevice = files.open(name, { label: 'image', readOnly, contents });
  const image = await openAs(format, {
    ...options,
    device,
    readPurpose: 'data',
    openBacking: options.openBacking ?? openBacking,
    openDataFile: openDataFile(options, chain),
  });
  if (options.backing?.dataFile === undefined || hasDataFile(image.shape)) return image;
  await image.abandon();
  throw withoutDataFile(name);
}

/** Opens a device as an image of a format; a failed opening closes it. */
async function openAs(format: Format, options: OpenOptions): Promise<DiskImage> {
  const { device, readPurpose } = options;
  try {
    const engine = await engineOf(format);
    return await engine.open(options);
  } catch (error) {
    const named = await withContent(error, { device, format, purpose: readPurpose });
    await device.close();
    throw named;
  }
}

const engines = new Map<Format, FormatEngine>();

/** What the format does with files; loaded once. */
async function engineOf(format: Format): Promise<FormatEngine> {
  const loaded = engines.get(format);
  if (loaded !== undefined) return loaded;
  const engine = await FORMAT_FACTS[format].loadEngine();
  engines.set(format, engine);
  return engine;
}

/**
 * Lets the format work on one file without those behind it; closes the file.
 *
 * @throws Qcow2BenchError of the work, or of the format.
 */
export async function withLoneFile<T>(
  format: Format,
  options: LoneFileOptions,
  work: (engine: FormatEngine, file: LoneFile) => Promise<T>,
): Promise<T> {
  const { device } = options;
  try {
    return await work(await engineOf(format), loneFile(options));
  } catch (error) {
    throw await withContent(error, { device, format, purpose: 'data' });
  } finally {
    await device.close();
  }
}

/**
 * Reads where an image file has what; the device stays open.
 *
 * @throws Qcow2BenchError of the format, if the file is no image of it.
 */
export async function readFileLayout(device: BlockDevice, format: Format): Promise<FileLayout> {
  const engine = await engineOf(format);
  return engine.readLayout(device);
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
  return FORMAT_FACTS[options.format].impossible?.(options);
}

/**
 * Writes an empty image over whatever `device` holds and syncs it; closing the device is left to
 * the caller.
 *
 * @throws Qcow2BenchError of the format, for sizes it does not take, or of the device.
 */
export async function createImage(options: CreateImageOptions): Promise<void> {
  const engine = await engineOf(options.format);
  await engine.create(options);
  await options.device.sync('close');
  await options.dataFile?.device.sync('close');
}
