/**
 * Internal snapshots of an image file: listing, taking, applying, deleting.
 *
 * Invariants:
 * - Listing opens the file alone and read-only. Changing opens it with the files behind it, as QEMU
 *   does: a disk that gets larger must hide what they hold there.
 * - An image that was not closed cleanly is repaired before it is changed; a change that fails is
 *   not closed as clean if the image was stopped.
 */

import { Qcow2BenchError } from '../core/error.ts';
import type { BackingPolicy } from '../format/backing-chain.ts';
import type { DiskImage, Format, ImageSnapshots, NewSnapshot, SnapshotInfo } from '../format/disk-image.ts';
import { FORMAT_FACTS, formatList, formatsWith } from '../format/formats.ts';
import { withLoneFile } from '../format/registry.ts';
import { changeImage } from './change-image.ts';
import { refuseToShrinkDamaged } from './damaged-image.ts';
import { contentOfPlace } from './detect-format.ts';
import { hostFiles, hostImage, WRITABLE_HOST_FILES } from './host-image.ts';

/**
 * @param options `forceShare`: read an image that another process may be writing to. Default false.
 * @throws Qcow2BenchError `snapshots-unsupported` for other formats, or what opening the image
 *   throws.
 */
export async function listSnapshots(
  path: string,
  { forceShare = false }: { readonly forceShare?: boolean } = {},
): Promise<readonly SnapshotInfo[]> {
  const format = await formatWithSnapshots(path);
  const files = hostFiles({ readOnly: true, forceShare });
  const device = files.open(path, { label: 'image', readOnly: true, contents: 'metadata' });
  return withLoneFile(format, { device, readOnly: true }, async (engine, file) => {
    // A description reads the bitmaps too: a broken one must not keep the snapshots from the user.
    const image = await engine.open(file.options);
    await image.abandon();
    return snapshotsOf(image, path).list;
  });
}

export type SnapshotChange =
  | { readonly action: 'create'; readonly snapshot: NewSnapshot }
  /** By id or name. */
  | { readonly action: 'apply' | 'delete'; readonly which: string };

export interface ChangeSnapshotsOptions {
  /** A path of the host. */
  readonly path: string;
  readonly change: SnapshotChange;
  readonly backing?: BackingPolicy | undefined;
}

/**
 * Changes the snapshots of an image; answers those that it has afterwards.
 *
 * @throws Qcow2BenchError `snapshots-unsupported`, `shrink-of-damaged-image` of a snapshot with a
 *   smaller disk, of the files, the format, the backing chain, or the change.
 */
export async function changeSnapshots(options: ChangeSnapshotsOptions): Promise<readonly SnapshotInfo[]> {
  const { path, change, backing } = options;
  const format = await formatWithSnapshots(path);
  if (change.action === 'apply') {
    const file = { name: path, format, files: WRITABLE_HOST_FILES };
    await refuseToShrinkDamaged(file, ({ snapshots, virtualSize }) => {
      const snapshot = snapshots?.find(change.which);
      return snapshot !== undefined && snapshot.diskSize < virtualSize;
    });
  }
  return changeImage({ format, name: path, files: WRITABLE_HOST_FILES, backing }, async (image) => {
    const snapshots = snapshotsOf(image, path);
    await applyChange(snapshots, change);
    return snapshots.list;
  });
}

/** @throws Qcow2BenchError `snapshots-unsupported` if its format has none. */
export function snapshotsOf({ format, snapshots }: DiskImage, path: string): ImageSnapshots {
  if (snapshots === undefined) throw unsupported(format, path);
  return snapshots;
}

async function applyChange(snapshots: ImageSnapshots, change: SnapshotChange): Promise<void> {
  switch (change.action) {
    case 'create':
      await snapshots.create(change.snapshot);
      return;
    case 'apply':
      return snapshots.apply(change.which);
    case 'delete':
      return snapshots.delete(change.which);
  }
}

async function formatWithSnapshots(path: string): Promise<Format> {
  const content = await contentOfPlace(hostImage(path));
  if (typeof content === 'string' && FORMAT_FACTS[content].hasSnapshots) return content;
  throw unsupported(content, path);
}

function unsupported(content: Awaited<ReturnType<typeof contentOfPlace>>, path: string): Qcow2BenchError {
  const having = formatList(formatsWith(({ hasSnapshots }) => hasSnapshots));
  const found =
    typeof content === 'string'
      ? `${content}: convert it to ${having} first`
      : `${content.name}: ${content.remedy}`;
  return new Qcow2BenchError(
    'snapshots-unsupported',
    `only ${having} images have internal snapshots, and the file is ${found}`,
    { path },
  );
}
