/**
 * An image as a user names it, by a path of the host, and the image files that lead on from it.
 *
 * Invariant: nothing is probed for reading, so that images in directories nobody may write to can be read.
 */

import { basename, dirname, resolve } from 'node:path';

import { probeCapabilities, type Capabilities, type Missing } from '../device/capabilities.ts';
import type { BlockDevice } from '../device/block-device.ts';
import { FileStorage, followLinks } from '../device/file-storage.ts';
import type { LockRole } from '../device/image-lock.ts';
import type { Storage } from '../device/storage.ts';
import { SyncElision } from '../device/sync-elision.ts';
import type { ImageFiles, LabelledFile } from '../format/backing-chain.ts';

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

/** How a file is locked that is opened alone or as one of a chain. */
export function lockOf(
  { contents, readOnly }: Pick<LabelledFile, 'contents' | 'readOnly'>,
  forceShare = false,
): LockRole {
  // A raw disk has no metadata that a writer could change under a reader: QEMU's tools read it beside one.
  const isShared = forceShare || (readOnly && contents === 'raw');
  return isShared ? { kind: 'shared-reader' } : { kind: 'user', contents, readOnly };
}

/** Host files by their paths, wherever they lie: for backing files that the user named. */
export const HOST_FILES: ImageFiles = {
  open: (path, file) => openHost(path, file, lockOf(file)),
  realName: followLinks,
};

/** The same, for reading files whatever other processes do with them. */
export const SHARED_HOST_FILES: ImageFiles = {
  ...HOST_FILES,
  open: (path, file) => openHost(path, file, lockOf(file, true)),
};

function openHost(path: string, { label, readOnly }: LabelledFile, lock: LockRole): BlockDevice {
  const { storage, name } = hostImage(path, 'read');
  return storage.open(name, { label, readOnly, lock });
}

/** The same, for changing an image: what is opened to be written has all that its directory can do, and elides syncs (R1). */
export const WRITABLE_HOST_FILES: ImageFiles = {
  ...HOST_FILES,
  open: (path, file) => {
    if (file.readOnly) return HOST_FILES.open(path, file);
    const { storage, name } = hostImage(path, 'write');
    const { label, readOnly } = file;
    return new SyncElision(storage.open(name, { label, readOnly, lock: lockOf(file) }));
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
