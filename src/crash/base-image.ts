/**
 * The image that a log begins with: opened read-only, and copied with the files behind it. Nothing of
 * the user's is written.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { ImageFiles } from '../format/backing-chain.ts';
import type { CacheMode } from '../format/cache-mode.ts';
import type { Format } from '../format/disk-image.ts';
import { openImage } from '../format/registry.ts';
import { copyPages, copyWhole } from './copied-files.ts';
import { PageFiles } from './pages.ts';
import type { Subject } from './recording.ts';

export interface BaseImage {
  readonly subject: Subject;
  readonly base: PageFiles;
}

/**
 * @param options.name as `files` understands it
 * @throws Qcow2BenchError `base-has-data-file`, `image-too-large`; of `files`, the format or the
 *   backing chain
 */
export async function readBaseImage({
  name,
  format,
  cache,
  files,
}: {
  readonly name: string;
  readonly format: Format;
  readonly cache: CacheMode;
  readonly files: ImageFiles;
}): Promise<BaseImage> {
  const base = new PageFiles();
  const constants = new Map<string, Uint8Array>();
  const behind = new Map<string, Parameters<ImageFiles['open']>[1]>();
  const image = await openImage({
    format,
    name,
    readOnly: true,
    files: {
      open: (each, file) => {
        if (file.label === 'data') refuseDataFile(name);
        behind.set(each, file);
        return files.open(each, file);
      },
    },
  });
  const { virtualSize, clusterSize, refcountMode } = image;
  await image.abandon();
  for (const [each, file] of behind) {
    const device = files.open(each, { ...file, readOnly: true });
    try {
      if (each === name) await copyPages(device, base, 0);
      else constants.set(each, await copyWhole(device));
    } finally {
      await device.close();
    }
  }
  return {
    base,
    subject: {
      format,
      files: [{ name, label: 'image' }],
      constants,
      cache,
      refcounts: refcountMode,
      caches: undefined,
      discard: undefined,
      policy: undefined,
      unnamedFormat: undefined,
      virtualSize,
      clusterSize,
    },
  };
}

function refuseDataFile(path: string): never {
  throw new Qcow2BenchError(
    'base-has-data-file',
    'its guest data are in an external data file: a log has the writes of one file only',
    { path },
  );
}
