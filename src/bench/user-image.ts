/**
 * An image that the user already has, and the files that a cell is served on: a copy of it in
 * another directory, or, if the user asked for that, the image itself.
 *
 * Invariants:
 * - A copy has all bytes of the image, and of its data file, where it has one. Files behind it are
 *   opened read-only where they are; relative names are taken from the directory of the original.
 * - Of an image that is served on a copy no file is ever opened for writing.
 */

import { basename, dirname } from 'node:path';

import { Qcow2BenchError } from '../core/error.ts';
import { UNTRIED } from '../device/capabilities.ts';
import { FileStorage, followLinks } from '../device/file-storage.ts';
import type { Storage } from '../device/storage.ts';
import type { BackingPolicy } from '../format/backing-chain.ts';
import type { Format } from '../format/disk-image.ts';
import type { RefcountMode } from '../format/image-options.ts';
import { dataFileName, type ImageShape } from '../format/image-shape.ts';
import type { ImageFacts } from '../result/schema.ts';
import type { WorkloadSource } from '../workload/library.ts';
import type { FileSource, StackOptions } from './stack.ts';

export interface UserImage {
  /**
   * Absolute; links in it are not followed, as relative names in the image are taken from its
   * directory.
   */
  readonly path: string;
  readonly format: Format;
  /** Bytes. */
  readonly virtualSize: number;
  /** Bytes; `null` for raw. */
  readonly clusterSize: number | null;
  /** `null` where the format has none. */
  readonly refcounts: RefcountMode | null;
  readonly shape: ImageShape | undefined;
  /** Absolute; `undefined` without a data file. */
  readonly dataPath: string | undefined;
  /** Files behind the image, nearest first. */
  readonly chain: readonly ChainFile[];
  /** Which files behind it may be opened. */
  readonly backingPolicy: BackingPolicy;
  /** Detects whether the image changed since it was counted. */
  readonly facts: ImageFacts;
  /** Serve the image itself, and not a copy. */
  readonly inPlace: boolean;
}

interface ChainFile {
  /** Absolute. */
  readonly path: string;
  readonly format: Format;
  readonly dataPath: string | undefined;
}

/** A file within a storage. */
interface FilePlace {
  readonly storage: Storage;
  readonly name: string;
}

/** The files to open an image from: what `openStack` takes. */
export type ImageStack = Pick<StackOptions, 'storage' | 'imageName' | 'backingPolicy'>;

/** The files of an image of which the copy is `name` in `storage`. */
export function copiedStack(
  { path, backingPolicy, dataPath }: UserImage,
  { storage, name }: FilePlace,
): ImageStack {
  const data = { storage, name: dataFileName(name) };
  const placed = new PlacedFiles(
    () => ({ storage, name }),
    (named) => {
      if (named === dataPath) return data;
      const message = `the image now has another data file ('${named}') than when the run began: do not change it during a run`;
      throw new Qcow2BenchError('image-changed', message, { path });
    },
  );
  return { storage: placed, imageName: path, backingPolicy };
}

/**
 * An image of the host where it is, with its data file.
 *
 * @param path absolute
 */
export function servedStack(
  path: string,
  { backingPolicy }: { readonly backingPolicy: BackingPolicy },
): ImageStack {
  return { storage: new PlacedFiles(() => hostPlace(path), hostPlace), imageName: path, backingPolicy };
}

/** A file behind an image, with those behind it, to be read. */
export function behindStack({ path, backingPolicy }: UserImage, file: ChainFile): ImageStack {
  // What is allowed is below the directory of the image on top.
  const allowed = { allowedDirectory: dirname(path), ...withoutUndefined(backingPolicy) };
  return servedStack(file.path, { backingPolicy: allowed });
}

/** Copies the image, and its data file, to `name`; what fails leaves nothing. */
export async function copyUserImage(
  { path, dataPath }: UserImage,
  { storage, name }: FilePlace,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  if (storage.copyIn === undefined) throw new Error('internal error: an image copy needs file names');
  await storage.copyIn(path, name, signal);
  if (dataPath === undefined) return [name];
  try {
    await storage.copyIn(dataPath, dataFileName(name), signal);
  } catch (error) {
    storage.remove(name);
    throw error;
  }
  return [name, dataFileName(name)];
}

/** What of the workload's own image does not hold where it runs on a user's. */
export function leftOutOf(source: WorkloadSource): readonly string[] {
  if (source.kind !== 'workload') return [];
  const { prefill, crash, backing } = source.workload.image;
  const parts = [
    ...(prefill.length > 0 ? ['prefill'] : []),
    ...(crash.length > 0 ? ['crash'] : []),
    ...(backing === undefined ? [] : ['backing file']),
  ];
  if (parts.length === 0) return [];
  return [`the image is used as it is, without the workload's own ${parts.join(', ')}`];
}

/**
 * Opens the image and its data file at their places, and any other name read-only as a file of the
 * host.
 */
class PlacedFiles implements FileSource {
  readonly #imagePlace: () => FilePlace;
  readonly #dataPlace: (path: string) => FilePlace;

  constructor(imagePlace: () => FilePlace, dataPlace: (path: string) => FilePlace) {
    this.#imagePlace = imagePlace;
    this.#dataPlace = dataPlace;
  }

  open(path: string, options: Parameters<Storage['open']>[1] = {}): ReturnType<Storage['open']> {
    const { storage, name } = this.#placeOf(path, options.label ?? 'image');
    return storage.open(name, { ...options, shownPath: path });
  }

  #placeOf(path: string, label: string): FilePlace {
    switch (label) {
      case 'image':
        return this.#imagePlace();
      case 'data':
        return this.#dataPlace(path);
      default:
        return hostPlace(path);
    }
  }

  realName(path: string): string {
    return followLinks(path);
  }
}

/** A policy by which only what it says overrides. */
function withoutUndefined(policy: BackingPolicy): BackingPolicy {
  return Object.fromEntries(Object.entries(policy).filter(([, value]) => value !== undefined));
}

function hostPlace(path: string): FilePlace {
  return { storage: new FileStorage(dirname(path), UNTRIED), name: basename(path) };
}
