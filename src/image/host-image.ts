/**
 * An image as a user names it, by a path of the host, and the image files that lead on from it.
 *
 * Invariant: nothing is written to find out what a place can do, so that images on a full disk or
 * in a read-only directory can be read, and repaired and rid of snapshots where they are writable
 * themselves.
 */

import { basename, dirname, resolve } from 'node:path';

import type { BlockDevice } from '../device/block-device.ts';
import { probeCapabilities, UNTRIED } from '../device/capabilities.ts';
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

/** The place of a host file that may exist or not. */
export function hostImage(path: string): ImagePlace {
  return { storage: new FileStorage(dirname(resolve(path)), UNTRIED), name: basename(path) };
}

/**
 * The place of an image that a run counts on. The directory of one that is still to be made is
 * tried first, so that nothing changes in mid-run and what is missing is a reason to skip cells.
 *
 * @throws Qcow2BenchError `directory-missing`, `not-a-directory`, `directory-unwritable`, or
 *   `host-write-failed` on a full disk.
 */
export function imageOfRun(path: string): ImagePlace {
  const place = hostImage(path);
  if (place.storage.exists(place.name)) return place;
  const directory = dirname(resolve(path));
  return { ...place, storage: new FileStorage(directory, probeCapabilities(directory)) };
}

/** How a file is locked that is opened alone or as one of a chain. */
export function lockOf(
  { contents, readOnly }: Pick<LabelledFile, 'contents' | 'readOnly'>,
  forceShare = false,
): LockRole {
  // A raw disk has no metadata that a writer could change under a reader: QEMU's tools read it
  // beside one.
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
  const { storage, name } = hostImage(path);
  return storage.open(name, { label, readOnly, lock });
}

/** The files with which an image is read, or changed. */
export function hostFiles({ readOnly, forceShare }: HostFilesUse): ImageFiles {
  if (!readOnly) return WRITABLE_HOST_FILES;
  return forceShare === true ? SHARED_HOST_FILES : HOST_FILES;
}

export interface HostFilesUse {
  readonly readOnly: boolean;
  readonly forceShare?: boolean | undefined;
}

/** The same, for changing an image: what is opened to be written elides syncs (R1). */
export const WRITABLE_HOST_FILES: ImageFiles = {
  ...HOST_FILES,
  open: (path, file) => {
    if (file.readOnly) return HOST_FILES.open(path, file);
    const { storage, name } = hostImage(path);
    const { label, readOnly } = file;
    return new SyncElision(storage.open(name, { label, readOnly, lock: lockOf(file) }));
  },
};
