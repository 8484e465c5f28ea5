/**
 * The files behind an image of the host: its backing files down to the last, and the data files of
 * all of them.
 *
 * Invariants: a file that an image names is opened only where the rules of the chain allow it and
 * to read the next name from it, so raw backing files and data files never are; nothing is opened
 * for writing. A name that the rules refuse is listed, and the list ends there: opening the image
 * fails later and names the reason.
 */

import { dirname, resolve } from 'node:path';

import { Qcow2BenchError } from '../core/error.ts';
import { backingPlace, contentsOf, type BackingPlace, type BackingPolicy } from '../format/backing-chain.ts';
import type { Format } from '../format/disk-image.ts';
import type { BackingReference } from '../format/image-options.ts';
import { HOST_FILES, hostImage } from './host-image.ts';
import { readImageInfo, type ImageInfo } from './image-info.ts';

/** How the command is going to open the image. */
export interface ImageFilesRules {
  /** Default: detected from content. */
  readonly format?: Format | undefined;
  readonly backing?: BackingPolicy | undefined;
}

/** @returns absolute paths; the files need not exist. */
export async function imageFiles(path: string, rules: ImageFilesRules = {}): Promise<readonly string[]> {
  const { format, backing: policy = {} } = rules;
  const files: string[] = [];
  const chain: [string, ...string[]] = [resolve(path)];
  let info = await infoOf(chain[0], format);
  while (info !== undefined) {
    const folder = dirname(info.path);
    const given = chain.length === 1 ? policy.dataFile : undefined;
    if (given !== undefined) files.push(resolve(given));
    else if (info.dataFile?.name !== undefined) files.push(resolve(folder, info.dataFile.name));
    if (info.backing === undefined) break;
    files.push(resolve(folder, info.backing.name));
    const next = allowedPlace(chain, info.backing, policy);
    if (next === undefined) break;
    chain.push(next.name);
    info = await infoOf(next.name, next.format);
  }
  return files;
}

function allowedPlace(
  chain: readonly [string, ...string[]],
  reference: BackingReference,
  policy: BackingPolicy,
): BackingPlace | undefined {
  try {
    return backingPlace({ files: HOST_FILES, policy, name: chain[0] }, chain, reference);
  } catch (error) {
    if (error instanceof Qcow2BenchError) return undefined;
    throw error;
  }
}

/** Of an image without metadata nothing is read: it names no files. */
async function infoOf(path: string, format: Format | undefined): Promise<ImageInfo | undefined> {
  if (format !== undefined && contentsOf(format) === 'raw') return undefined;
  try {
    return { ...(await readImageInfo(hostImage(path), { format, forceShare: true })), path };
  } catch (error) {
    if (error instanceof Qcow2BenchError) return undefined;
    throw error;
  }
}
