/**
 * Information about an image, read without opening any other file and without writing; and of every
 * image of a backing chain, each opened alone and only where the rules of the chain allow it.
 */

import { backingPlace, contentsOf, unopenedFile, type BackingPolicy } from '../format/backing-chain.ts';
import type { Format } from '../format/disk-image.ts';
import type { ImageDetails } from '../format/format-facts.ts';
import { withLoneFile } from '../format/registry.ts';
import { formatOfPlace } from './detect-format.ts';
import { HOST_FILES, hostImage, lockOf, type ImagePlace } from './host-image.ts';

/** What an image's own file says of it; of every format what it has. */
export interface ImageInfo extends ImageDetails {
  readonly path: string;
  readonly format: Format;
  /** Bytes of the file, holes included. */
  readonly fileSize: number;
}

export interface ReadInfoOptions {
  /** Default: detected from the first bytes. */
  readonly format?: Format | undefined;
  /** Read images although other processes may be writing to them. Default false. */
  readonly forceShare?: boolean | undefined;
}

/**
 * Reads an image's facts.
 *
 * @throws Qcow2BenchError `file-missing`, `image-locked`, `host-open-failed`, `image-cut-off`, or
 *   what opening its format throws.
 */
export async function readImageInfo(place: ImagePlace, options: ReadInfoOptions = {}): Promise<ImageInfo> {
  const format = options.format ?? (await formatOfPlace(place));
  const lock = lockOf({ contents: contentsOf(format), readOnly: true }, options.forceShare);
  const device = place.storage.open(place.name, { readOnly: true, lock });
  const { path } = device;
  const fileSize = device.size();
  return withLoneFile(format, { device, readOnly: true }, async (engine, file) => ({
    format,
    path,
    fileSize,
    ...(await engine.describe(file)),
  }));
}

/**
 * Reads the facts of an image of the host and of all that it is backed by, from the top down; paths
 * are as the user or the overlay names them.
 *
 * @throws Qcow2BenchError of the first image that cannot be read, or that the rules of the chain do
 *   not let be opened: see `readImageInfo` and `backingOpener`.
 */
export async function readChainInfo(
  options: ReadInfoOptions & {
    readonly path: string;
    readonly backing?: BackingPolicy | undefined;
  },
): Promise<readonly ImageInfo[]> {
  const { path, format, forceShare, backing: policy = {} } = options;
  const chain: [string, ...string[]] = [path];
  const infos = [await infoAt(path, { format, forceShare })];
  for (;;) {
    const info = infos.at(-1);
    if (info?.backing === undefined) return infos;
    const next = backingPlace({ files: HOST_FILES, policy, name: path }, chain, info.backing);
    chain.push(next.name);
    const overlay = info.path;
    infos.push(
      await infoAt(next.name, { format: next.format, forceShare }).catch((error: unknown) => {
        throw unopenedFile(error, { name: next.name, role: 'backing', overlay });
      }),
    );
  }
}

async function infoAt(path: string, options: ReadInfoOptions): Promise<ImageInfo> {
  return { ...(await readImageInfo(hostImage(path), options)), path };
}
