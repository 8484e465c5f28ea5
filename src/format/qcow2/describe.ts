/** Information about a qcow2 file, as `qemu-img info` has it. */

import type { ImageDetails, LoneFile } from '../format-facts.ts';
import { BITMAP_FLAG, readConsistentDirectory } from './bitmaps/bitmap-directory.ts';
import type { HeaderStore } from './metadata/header-store.ts';
import { INCOMPATIBLE } from './on-disk/layout.ts';
import { openQcow2 } from './open.ts';

export async function describeQcow2(file: LoneFile): Promise<ImageDetails> {
  const image = await openQcow2(file.options, 'describe');
  const { header, refcountMode } = image;
  const { values, isDirty, hasDataFile, isDataFileRaw } = header;
  const bitmaps = await bitmapsOf(header).finally(() => image.abandon());
  const dataFile = hasDataFile ? { name: values.dataFile, isRaw: isDataFileRaw } : undefined;
  return {
    virtualSize: values.virtualSize,
    clusterSize: 2 ** values.clusterBits,
    isDirty,
    isEncrypted: values.encryption !== undefined,
    backing: file.backing(),
    refcounts: refcountMode,
    dataFile,
    snapshots: image.snapshots.list,
    specific: specificOf(header, bitmaps),
  };
}

/** In the order of `qemu-img info`. */
function specificOf(header: HeaderStore, bitmaps: readonly object[]): Readonly<Record<string, unknown>> {
  const { values, hasLazyRefcounts, hasDataFile, isDataFileRaw } = header;
  const always = {
    compat: values.version === 2 ? '0.10' : '1.1',
    'compression-type': values.compressionType,
  };
  const refcounts = {
    'refcount-bits': 2 ** values.refcountOrder,
    ...(values.encryption === undefined ? {} : { encrypt: { format: values.encryption } }),
  };
  if (values.version === 2) return { ...always, ...refcounts };
  return {
    ...always,
    'lazy-refcounts': hasLazyRefcounts,
    ...(bitmaps.length === 0 ? {} : { bitmaps }),
    ...refcounts,
    ...(hasDataFile && values.dataFile !== undefined ? { 'data-file': values.dataFile } : {}),
    ...(hasDataFile ? { 'data-file-raw': isDataFileRaw } : {}),
    corrupt: (values.incompatible & INCOMPATIBLE.corrupt) !== 0,
    'extended-l2': (values.incompatible & INCOMPATIBLE.extendedL2) !== 0,
  };
}

/** Persistent dirty bitmaps that are in step with the disk. */
async function bitmapsOf(header: HeaderStore): Promise<readonly object[]> {
  const directory = await readConsistentDirectory(header);
  return (directory?.entries ?? []).map(({ name, granularityBits, flags }) => ({
    flags: [
      // It was open for writing when a program died: its bits are not to be trusted.
      ...((flags & BITMAP_FLAG.inUse) === 0 ? [] : ['in-use']),
      // It follows writes as soon as the image is opened.
      ...((flags & BITMAP_FLAG.auto) === 0 ? [] : ['auto']),
    ],
    name,
    granularity: 2 ** granularityBits,
  }));
}
