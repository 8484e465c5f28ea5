/**
 * Creating an image file for a user.
 *
 * Invariants:
 * - The image has a temporary name until it is whole: one that could not be finished leaves
 *   nothing, and an existing file is replaced in one step, if that was asked for, or not at all.
 * - A backing file is opened in the format that the user names, so that no overlay is made over
 *   nothing.
 */

import { basename, dirname } from 'node:path';

import { SECTOR_SIZE } from '../core/alignment.ts';
import { Qcow2BenchError } from '../core/error.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { MemoryDevice } from '../device/memory-device.ts';
import { aboutFinalFile, aboutFinalName } from '../device/temporary-file.ts';
import type { ImageFiles } from '../format/backing-chain.ts';
import type { Format } from '../format/disk-image.ts';
import { FORMAT_FACTS, formatList, formatsWith, formatsWithShape } from '../format/formats.ts';
import type { CreateOptions, RefcountMode } from '../format/image-options.ts';
import { dataFileName, hasDataFile, type ImageShape } from '../format/image-shape.ts';
import { createImage, impossibleImage, openImage, type CreateImageOptions } from '../format/registry.ts';
import type { ImagePlace } from './host-image.ts';

export interface CreateImageFileOptions extends ImagePlace {
  readonly format: Format;
  /** Bytes; default: the backing file's. */
  readonly virtualSize?: number | undefined;
  /** Bytes; default 64 KiB; raw has none. */
  readonly clusterSize?: number | undefined;
  /** qcow2 only; default eager. */
  readonly refcounts?: RefcountMode | undefined;
  /** Default: QEMU's; what the format does not have of it is refused. */
  readonly shape?: ImageShape | undefined;
  readonly backing?: NewBacking | undefined;
  /**
   * Where the data file is made, and how it is named in the image, with `shape.dataFile`; default:
   * `IMAGE.data` beside the image.
   */
  readonly dataFile?: (ImagePlace & { readonly stored: string }) | undefined;
  /** Replace a file that is there. Default false. */
  readonly overwrite?: boolean | undefined;
}

export interface NewBacking {
  /** As it is stored: an absolute path, or relative to the image's directory. */
  readonly name: string;
  readonly format: Format;
  /** Where it is opened, as `files` understands it. */
  readonly path: string;
  readonly files: ImageFiles;
}

export interface CreatedImage {
  readonly path: string;
  /** Bytes. */
  readonly virtualSize: number;
}

/**
 * Writes an empty image and makes it durable.
 *
 * @throws Qcow2BenchError `size-missing`, `bad-size`, `option-of-other-format`, `file-exists`, what
 *   the format refuses, or what the backing file's opening throws.
 */
export async function createImageFile(options: CreateImageFileOptions): Promise<CreatedImage> {
  const { storage, name, format } = options;
  const choices = { ...imageOptions(options), format };
  const broken = impossibleImage(choices);
  if (broken !== undefined) throw new Qcow2BenchError(broken.code, broken.message, { path: name });
  const image = { ...choices, virtualSize: await virtualSizeOf(options) };
  await tryInMemory(image, name);
  const overwrite = options.overwrite ?? false;
  const place = options.dataFile ?? usualDataFile(options);
  for (const each of [{ storage, name }, place]) if (each) await refuseInTheWay(each, { overwrite });
  using file = new NewFile({ storage, name }, { label: 'image', overwrite });
  using dataFile = place && new NewFile(place, { label: 'data', overwrite });
  try {
    const { device } = file;
    await createImage({
      ...image,
      device,
      dataFile: dataFile && { name: place.stored, device: dataFile.device },
    });
  } catch (error) {
    throw file.named(dataFile?.named(error) ?? error);
  }
  // An image without its data file would be of no use.
  await file.device.close();
  await dataFile?.keep(file);
  await file.keep();
  return { path: file.path, virtualSize: image.virtualSize };
}

function usualDataFile({ storage, name, shape }: CreateImageFileOptions): CreateImageFileOptions['dataFile'] {
  if (!hasDataFile(shape)) return undefined;
  // Relative to the directory of the image that names it.
  return { storage, name: dataFileName(name), stored: basename(dataFileName(name)) };
}

/**
 * @throws Qcow2BenchError `file-exists`, `image-locked`, `not-a-regular-file` or the system's
 *   refusal to change the file.
 */
export async function refuseInTheWay(
  { storage, name }: ImagePlace,
  { overwrite }: { readonly overwrite: boolean },
): Promise<void> {
  if (!storage.exists(name)) return;
  const inTheWay = overwrite ? storage.open(name, { lock: { kind: 'replacer' } }) : storage.create(name);
  await inTheWay.close();
}

/** A file being made under a temporary name: closed in the end, and removed unless it was kept. */
class NewFile implements Disposable {
  readonly device: BlockDevice;
  readonly path: string;
  readonly #place: ImagePlace;
  readonly #temporaryName: string;
  readonly #overwrite: boolean;
  #isKept = false;

  constructor(
    place: ImagePlace,
    { label, overwrite }: { readonly label: string; readonly overwrite: boolean },
  ) {
    const { storage, name } = place;
    this.#place = place;
    this.#overwrite = overwrite;
    this.#temporaryName = storage.temporaryName(name);
    this.device = created(place, this.#temporaryName, label);
    this.path = this.device.path.replace(this.#temporaryName, () => name);
  }

  /** @param next the file that this one belongs to, which is kept next. */
  async keep(next?: NewFile): Promise<void> {
    await this.device.close();
    const { storage, name } = this.#place;
    const before = next?.isBeside(this) === true ? next.#temporaryName : undefined;
    storage.rename(this.#temporaryName, name, { overwrite: this.#overwrite, before });
    this.#isKept = true;
  }

  /** Whether both are in one directory. */
  isBeside({ device }: NewFile): boolean {
    return dirname(this.device.path) === dirname(device.path);
  }

  /** An error about the temporary file as one about the file that was asked for. */
  named(error: unknown): unknown {
    return aboutFinalFile(error, { temporary: this.device.path, path: this.path });
  }

  [Symbol.dispose](): void {
    if (this.#isKept) return;
    void this.device.close();
    discardFile({ ...this.#place, name: this.#temporaryName });
  }
}

/**
 * Removes a file that is not needed any more. What cannot be removed stays: what led here is the
 * error to report.
 */
export function discardFile({ storage, name }: ImagePlace): void {
  try {
    storage.remove(name);
  } catch (error) {
    if (!(error instanceof Qcow2BenchError)) throw error;
  }
}

function created({ storage, name }: ImagePlace, temporaryName: string, label: string): BlockDevice {
  try {
    return storage.create(temporaryName, { label });
  } catch (error) {
    throw aboutFinalName(error, temporaryName, name);
  }
}

/**
 * Throws what making the image would throw, a size that is too large, before anything is touched.
 */
async function tryInMemory(image: Omit<CreateImageOptions, 'device'>, path: string): Promise<void> {
  // Preallocating would only take time and memory here.
  const shape = { ...image.shape, preallocation: 'off' } as const;
  const dataFile = hasDataFile(shape) ? { name: 'data', device: new MemoryDevice() } : undefined;
  await createImage({ ...image, shape, dataFile, device: new MemoryDevice({ path }) });
}

function imageOptions(options: CreateImageFileOptions): Omit<CreateOptions, 'device' | 'virtualSize'> {
  const { format, clusterSize, refcounts, backing, shape = {} } = options;
  const { clusterSizes, refcountModes } = FORMAT_FACTS[format];
  if (refcounts !== undefined && !refcountModes.includes(refcounts)) {
    throw ofOtherFormat(
      'refcounts',
      format,
      formatsWith((facts) => facts.refcountModes.length > 0),
    );
  }
  if (clusterSize !== undefined && clusterSizes === undefined) {
    throw ofOtherFormat(
      'clusters',
      format,
      formatsWith((facts) => facts.clusterSizes !== undefined),
    );
  }
  for (const [key, value] of Object.entries(shape)) {
    const having = formatsWithShape(key as keyof ImageShape);
    if (value !== undefined && !having.includes(format)) throw ofOtherFormat(key, format, having);
  }
  return {
    clusterSize,
    refcounts,
    shape,
    backingFile: backing && { name: backing.name, format: backing.format },
  };
}

async function virtualSizeOf({ virtualSize, backing }: CreateImageFileOptions): Promise<number> {
  const backingSize = backing === undefined ? undefined : await sizeOfBacking(backing);
  const size = virtualSize ?? backingSize;
  if (size === undefined) {
    throw new Qcow2BenchError('size-missing', 'an image without a backing file needs a size');
  }
  if (size % SECTOR_SIZE !== 0 || size < 0) {
    throw new Qcow2BenchError(
      'bad-size',
      `${String(size)} bytes is not a valid disk size: it must be a multiple of ${String(SECTOR_SIZE)}`,
    );
  }
  return size;
}

async function sizeOfBacking({ files, path, format }: NewBacking): Promise<number> {
  const image = await openImage({
    files,
    name: path,
    format,
    readOnly: true,
    backing: { allowAnywhere: true },
  });
  await image.abandon();
  return image.virtualSize;
}

function ofOtherFormat(what: string, format: Format, having: readonly Format[]): Qcow2BenchError {
  const verb = having.length === 1 ? 'has' : 'have';
  return new Qcow2BenchError(
    'option-of-other-format',
    `${format} has no ${what}; ${formatList(having, 'and')} ${verb} them`,
  );
}
