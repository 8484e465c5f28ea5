/**
 * What an image of the user is, with the files it consists of: what has to be known to serve it on
 * a copy.
 *
 * Invariants:
 * - All files are opened read-only; nothing is repaired.
 * - Until the survey is disposed of, they stay open and locked: no program that takes QEMU's locks
 *   writes to one of them, so all copies that are made meanwhile are of the same bytes, over the
 *   same files behind them.
 */

import { resolve } from 'node:path';

import type { BackingPolicy } from '../format/backing-chain.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import { FORMAT_FACTS } from '../format/formats.ts';
import type { RefcountMode } from '../format/image-options.ts';
import type { ImageShape } from '../format/image-shape.ts';
import { openImage } from '../format/registry.ts';
import { HOST_FILES, hostImage } from './host-image.ts';

export interface SurveyedImage {
  /**
   * Absolute; links are not followed, as relative names in the image are taken from its directory.
   */
  readonly path: string;
  readonly format: Format;
  /** Bytes. */
  readonly virtualSize: number;
  /** Bytes; `null` where the format has no clusters. */
  readonly clusterSize: number | null;
  /** `null` where the format has none. */
  readonly refcounts: RefcountMode | null;
  /** Defaults included; empty for formats that have only one. */
  readonly shape: ImageShape;
  /** Absolute; `undefined` without a data file. */
  readonly dataPath: string | undefined;
  /** Files behind the image, nearest first. */
  readonly chain: readonly SurveyedFile[];
}

interface SurveyedFile {
  /** Absolute. */
  readonly path: string;
  readonly format: Format;
  readonly dataPath: string | undefined;
}

export interface ImageSurvey extends AsyncDisposable {
  readonly found: SurveyedImage;
}

/**
 * @throws Qcow2BenchError of the files, the format or the backing chain; `image-locked` if one of
 *   them is written to.
 */
export async function surveyImage(options: {
  readonly path: string;
  readonly format: Format;
  readonly backing: BackingPolicy;
}): Promise<ImageSurvey> {
  const { format } = options;
  const path = resolve(options.path);
  const opened = new Map<string, string>();
  const image = await openImage({
    format,
    name: path,
    files: {
      ...HOST_FILES,
      open: (named, { label }) => {
        opened.set(label, resolve(named));
        const { storage, name } = hostImage(named);
        return storage.open(name, { label, readOnly: true, lock: { kind: 'copier' } });
      },
    },
    readOnly: true,
    backing: options.backing,
  });
  try {
    return { found: foundIn(image, { path, format, opened }), [Symbol.asyncDispose]: () => image.abandon() };
  } catch (error) {
    await image.abandon();
    throw error;
  }
}

/** @param opened paths by the label that each file was opened with. */
function foundIn(
  image: DiskImage,
  {
    path,
    format,
    opened,
  }: { readonly path: string; readonly format: Format; readonly opened: ReadonlyMap<string, string> },
): SurveyedImage {
  return {
    path,
    format,
    virtualSize: image.virtualSize,
    clusterSize: FORMAT_FACTS[format].clusterSizes === undefined ? null : image.clusterSize,
    refcounts: image.refcountMode ?? null,
    shape: image.shape ?? {},
    dataPath: opened.get('data'),
    chain: chainOf(image, opened),
  };
}

function chainOf(image: DiskImage, opened: ReadonlyMap<string, string>): readonly SurveyedFile[] {
  const chain: SurveyedFile[] = [];
  for (let behind = image.backing; behind !== undefined; behind = behind.backing) {
    const label = `backing:${String(chain.length)}`;
    const path = opened.get(label);
    if (path === undefined) throw new Error(`internal error: no file was opened as ${label}`);
    chain.push({ path, format: behind.format, dataPath: opened.get(`${label}:data`) });
  }
  return chain;
}
