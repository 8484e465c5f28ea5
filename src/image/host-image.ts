/**
 * An image as a user names it, by a path of the host, and the image files that lead on from it.
 *
 * Invariant: nothing is probed for reading, so that images in directories nobody may write to can be read.
 */

import { basename, dirname, resolve } from 'node:path';

import { probeCapabilities, type Capabilities, type Missing } from '../device/capabilities.ts';
import { FileStorage, followLinks } from '../device/file-storage.ts';
import type { Storage } from '../device/storage.ts';
import { SyncElision } from '../device/sync-elision.ts';
import type { ImageFiles } from '../format/backing-chain.ts';

/** An image file within the storage that holds it. */
export interface ImagePlace {
  readonly storage: Storage;
  readonly name: string;
}

/**
 * The place of a host file, whether it is there or not.
 *
 * @param access `write` tries first what its directory can do, which writes a scratch file there.
 * @throws Qcow2BenchError for `write`: `directory-missing`, `not-a-directory`, `directory-unwritable`.
 */
export function hostImage(path: string, access: 'read' | 'write'): ImagePlace {
  const directory = dirname(resolve(path));
  const capabilities = access === 'write' ? probeCapabilities(directory) : UNPROBED;
  return { storage: new FileStorage(directory, capabilities), name: basename(path) };
}

/** Host files by their paths, wherever they lie: for backing files that the user named. */
export const HOST_FILES: ImageFiles = {
  open: (path, { label, readOnly }) => {
    const { storage, name } = hostImage(path, 'read');
    return storage.open(name, { label, readOnly });
  },
  realName: followLinks,
};

/** The same, for changing an image: what is opened to be written has all that its directory can do, and elides syncs (R1). */
export const WRITABLE_HOST_FILES: ImageFiles = {
  ...HOST_FILES,
  open: (path, labelled) => {
    if (labelled.readOnly) return HOST_FILES.open(path, labelled);
    const { storage, name } = hostImage(path, 'write');
    return new SyncElision(storage.open(name, labelled));
  },
};

const NOT_PROBED: Missing = { ok: false, reason: 'it was not tried' };

const UNPROBED: Capabilities = {
  platform: process.platform,
  fileSystem: undefined,
  direct: NOT_PROBED,
  zeroRange: NOT_PROBED,
  punchHole: NOT_PROBED,
};
