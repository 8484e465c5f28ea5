/**
 * Opening an image with the files behind it for reading, as `map` and `convert` do.
 *
 * Invariants: nothing is written and nothing repaired; the image's own format may be detected from
 * its first bytes, as `qemu-img` does where the user names none, but never that of a file behind
 * it.
 */

import type { BackingPolicy } from '../format/backing-chain.ts';
import type { DiskImage, Format } from '../format/disk-image.ts';
import { openImage } from '../format/registry.ts';
import { formatOfPlace } from './detect-format.ts';
import { hostFiles, hostImage } from './host-image.ts';

export interface OpenedChain {
  readonly image: DiskImage;
  readonly format: Format;
  /**
   * Names of the files that hold the data, from the image down, as they were asked for: of an image
   * with an external data file, that file's.
   */
  readonly names: readonly string[];
  /** Names of the images themselves, in the same order. */
  readonly images: readonly string[];
}

export interface OpenChainOptions {
  /** A path of the host. */
  readonly path: string;
  /** Default: detected from the first bytes. */
  readonly format?: Format | undefined;
  readonly backing?: BackingPolicy | undefined;
  /** Open files although other processes may be writing to them. Default false. */
  readonly forceShare?: boolean | undefined;
}

/** @throws Qcow2BenchError of the files, the format or the backing chain. */
export async function openChain(options: OpenChainOptions): Promise<OpenedChain> {
  const format = options.format ?? (await formatOfFile(options.path));
  const names: string[] = [];
  const images: string[] = [];
  const files = hostFiles({ readOnly: true, forceShare: options.forceShare });
  const image = await openImage({
    format,
    name: options.path,
    files: {
      ...files,
      open: (name, labelled) => {
        const device = files.open(name, labelled);
        const depth = depthOf(labelled.label);
        names[depth] = name;
        // An image is opened before its data file.
        images[depth] ??= name;
        return device;
      },
    },
    readOnly: true,
    backing: options.backing,
  });
  return { image, format, names, images };
}

/** The format that a file of the host claims to have. */
export function formatOfFile(path: string): Promise<Format> {
  return formatOfPlace(hostImage(path));
}

/** Of a file by its label: a data file represents its image. */
function depthOf(label: string): number {
  const [, number] = /^backing:(\d+)/.exec(label) ?? [];
  return number === undefined ? 0 : Number(number) + 1;
}
