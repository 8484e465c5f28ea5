/**
 * Changing what the header of an image allows: the version of the format, and lazy refcounts.
 *
 * Invariants:
 * - What version 2 cannot hold is refused before anything is written.
 * - To version 2: no zero flag is left in a table before the header says so; zeroes and refcounts
 *   are durable before a table that needs them. (QEMU writes those refcounts last.)
 * - The order is otherwise QEMU's: version 3 first, since lazy refcounts need it; version 2 last.
 * - The caller holds the metadata lock.
 */

import { Qcow2BenchError } from '../../core/error.ts';
import type { ImageAmendment } from '../disk-image.ts';
import { zeroOrWrite } from '../real-zeroes.ts';
import type { ImageCore } from './metadata/image-core.ts';
import { EXTENSION } from './on-disk/header-extensions.ts';
import { FIELD } from './on-disk/header.ts';
import { clearAt, clusterTypeAt, hostOffsetAt, setAllocatedAt } from './on-disk/l2-entry.ts';
import { COMPATIBLE } from './on-disk/layout.ts';

/** As a power of two: version 2 has 16 bits. */
const V2_REFCOUNT_ORDER = 4;

/** @throws Qcow2BenchError `qcow2-lazy-needs-v3`, `amend-needs-v3` */
export async function amendImage(core: ImageCore, { compat, refcounts }: ImageAmendment): Promise<void> {
  const { header } = core;
  const { version } = header.values;
  const target = compat === undefined ? version : compat === '0.10' ? 2 : 3;
  if (target === 2) refuseVersion2(core, refcounts === 'lazy');
  if (target > version) await header.rewrite({ version: 3 });
  await header.rewrite({});
  if (refcounts !== undefined && (refcounts === 'lazy') !== header.hasLazyRefcounts) {
    await header.rewrite({ compatible: header.values.compatible ^ BigInt(COMPATIBLE.lazyRefcounts) });
  }
  if (target === version || target === 3) return;
  await expandZeroes(core);
  await core.tables.l2Cache.flush('amend');
  await header.rewrite({ version: 2, compatible: 0n, autoclear: 0n });
}

/**
 * What has no place in version 2. Of snapshots and bitmaps QEMU leaves images that its own check
 * finds errors in; a compression type is lost, and with it what is compressed.
 */
function refuseVersion2({ header }: ImageCore, wantsLazy: boolean): void {
  const { refcountOrder, compressionType, incompatible, snapshotCount, otherExtensions } = header.values;
  const { path } = header.device;
  if (wantsLazy) {
    throw new Qcow2BenchError(
      'qcow2-lazy-needs-v3',
      'lazy refcounts need compat 1.1: raise it in the same call (--compat 1.1)',
      {
        path,
        offset: FIELD.version,
      },
    );
  }
  const obstacles: readonly (readonly [boolean, string])[] = [
    [header.hasDataFile, 'an external data file: convert the image instead'],
    [compressionType !== 'zlib', `compression type ${compressionType}: convert the image instead`],
    [incompatible !== 0, 'extended L2 entries: convert the image instead'],
    [
      refcountOrder !== V2_REFCOUNT_ORDER,
      'refcounts of another width than 16 bits: convert the image instead',
    ],
    [snapshotCount > 0, 'internal snapshots, which may share zero clusters: delete them first'],
    [
      otherExtensions.some(({ type }) => type === EXTENSION.bitmaps),
      'dirty bitmaps: remove them first with bitmap --remove',
    ],
  ];
  const found = obstacles.find(([isThere]) => isThere);
  if (found === undefined) return;
  throw new Qcow2BenchError('amend-needs-v3', `compat 0.10 has no place for ${found[1]}`, {
    path,
    offset: FIELD.version,
  });
}

/** Replaces every zero flag: by nothing where nothing shows through, else by a cluster of zeroes. */
async function expandZeroes(core: ImageCore): Promise<void> {
  const { geometry, tables } = core;
  const { l2Cache } = tables;
  for (let l1Index = 0; l1Index < tables.l1Entries; l1Index++) {
    const table = tables.tableOffset(l1Index);
    if (table === 0) continue;
    for (let at = table; at < table + geometry.clusterSize; at += l2Cache.tableSize) {
      const slot = await l2Cache.acquire(at);
      try {
        await expandSlice(core, slot);
      } finally {
        l2Cache.release(slot);
      }
    }
  }
}

async function expandSlice(core: ImageCore, slot: number): Promise<void> {
  const { tables, backing, refcounts, guestFile, geometry } = core;
  const { l2Cache } = tables;
  const slice = l2Cache.view(slot);
  for (let index = 0; index < tables.sliceEntries; index++) {
    const type = clusterTypeAt(slice, index);
    if (type !== 'zero' && type !== 'zero-allocated') continue;
    if (type === 'zero' && backing === undefined) {
      clearAt(slice, index);
    } else {
      const isNew = type === 'zero';
      const hostOffset = isNew ? await refcounts.allocate(1) : hostOffsetAt(slice, index);
      await zeroOrWrite(guestFile, hostOffset, geometry.clusterSize, { purpose: 'data', mayUnmap: false });
      if (isNew) await l2Cache.setDependency(refcounts.blockCache);
      setAllocatedAt(slice, index, hostOffset);
    }
    l2Cache.dependOnSync('l2-after-cow');
    l2Cache.markDirty(slot);
  }
}
