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
import { Qcow2Image } from '../format/qcow2/qcow2-image.ts';
import type { Snapshot } from '../format/qcow2/snapshots/snapshot-table.ts';
import type { NewSnapshot } from '../format/qcow2/snapshots/snapshots.ts';
import { openImage } from '../format/registry.ts';
import { refuseToShrinkDamaged } from './damaged-image.ts';
import { contentOfPlace } from './detect-format.ts';
import { hostFiles, hostImage, WRITABLE_HOST_FILES } from './host-image.ts';
import { openLoneQcow2 } from './lone-image.ts';

/**
 * @param options `forceShare`: read an image that another process may be writing to. Default false.
 * @throws Qcow2BenchError `snapshots-unsupported` for other formats, or what opening the image
 *   throws.
 */
export async function listSnapshots(
  path: string,
  { forceShare = false }: { readonly forceShare?: boolean } = {},
): Promise<readonly Snapshot[]> {
  await refuseOtherFormats(path);
  const files = hostFiles({ readOnly: true, forceShare });
  const device = files.open(path, { label: 'image', readOnly: true, contents: 'metadata' });
  const { image } = await openLoneQcow2({ device, readOnly: true });
  await image.abandon();
  return image.snapshots.list;
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
export async function changeSnapshots(options: ChangeSnapshotsOptions): Promise<readonly Snapshot[]> {
  const { path, change, backing } = options;
  await refuseOtherFormats(path);
  if (change.action === 'apply') {
    await refuseToShrinkDamaged(path, WRITABLE_HOST_FILES, ({ snapshots, virtualSize }) => {
      const snapshot = snapshots.find(change.which);
      return snapshot !== undefined && snapshot.diskSize < virtualSize;
    });
  }
  const image = await openImage({
    format: 'qcow2',
    name: path,
    files: WRITABLE_HOST_FILES,
    readOnly: false,
    backing,
  });
  if (!(image instanceof Qcow2Image)) throw new Error('internal error: qcow2 was opened as another format');
  try {
    await applyChange(image, change);
  } catch (error) {
    // What was changed until then is whole, and the caches hold the rest of it. The first error is
    // the one to report.
    await image.close().catch(() => undefined);
    throw error;
  }
  await image.close();
  return image.snapshots.list;
}

async function applyChange({ snapshots }: Qcow2Image, change: SnapshotChange): Promise<void> {
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

async function refuseOtherFormats(path: string): Promise<void> {
  const content = await contentOfPlace(hostImage(path));
  if (content === 'qcow2') return;
  const found =
    typeof content === 'string'
      ? `${content}: convert it to qcow2 first`
      : `${content.name}: ${content.remedy}`;
  throw new Qcow2BenchError(
    'snapshots-unsupported',
    `only qcow2 images have internal snapshots, and the file is ${found}`,
    { path },
  );
}
