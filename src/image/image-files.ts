/**
 * The files behind an image of the host: its backing files down to the last, and the data files of all of them.
 *
 * Invariants: only headers are trusted with names, and nothing is opened for writing; the rules on where backing files
 * may lie are not applied, as these names only say which files an output must not replace. A chain that cannot be
 * followed ends there: opening the image fails later and names the reason.
 */

import { dirname, resolve } from 'node:path';

import { LIMITS } from '../core/limits.ts';
import { Qcow2BenchError } from '../core/error.ts';
import type { Format } from '../format/disk-image.ts';
import { hostImage } from './host-image.ts';
import { readImageInfo, type ImageInfo } from './image-info.ts';

export async function imageFiles(path: string): Promise<readonly string[]> {
  const files = new Set<string>();
  let next: { readonly path: string; readonly format: Format | undefined } | undefined = {
    path: resolve(path),
    format: undefined,
  };
  for (let depth = 0; next !== undefined && depth < LIMITS.backingChainDepth; depth++) {
    const current: string = next.path;
    const info = await infoOf(current, next.format);
    next = undefined;
    if (info === undefined || info.format === 'raw') continue;
    if (info.format === 'qcow2' && info.dataFile?.name !== undefined) {
      files.add(resolve(dirname(current), info.dataFile.name));
    }
    if (info.backing === undefined) continue;
    const path = resolve(dirname(current), info.backing.name);
    if (files.has(path)) continue;
    files.add(path);
    next = { path, format: info.backing.format };
  }
  return [...files];
}

async function infoOf(path: string, format: Format | undefined): Promise<ImageInfo | undefined> {
  try {
    return await readImageInfo(hostImage(path), { format, forceShare: true });
  } catch (error) {
    if (error instanceof Qcow2BenchError) return undefined;
    throw error;
  }
}
