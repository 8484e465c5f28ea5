/**
 * Images with one table at the end of the file, and the file cut off before, within or behind it.
 * Each is good but for the cut: the table was moved to the last clusters, with the refcounts that
 * go with that.
 */

import { bitmapsExtension } from '../../src/format/qcow2/bitmaps/bitmap-directory.ts';
import { FIELD } from '../../src/format/qcow2/on-disk/header.ts';
import { filled } from '../format/recorded-files.ts';
import { ImageEditor } from '../format/qcow2/image-editor.ts';
import { newImage, openBytes, withBitmaps } from '../format/qcow2/image-bytes.ts';

export const CLUSTER = 4096;
/** An L1 table of 256 entries, 2 KiB. */
export const DISK = 512 * 1024 ** 2;
const OFFSET = 0x00ff_ffff_ffff_fe00n;

export const TABLES = [
  'L1 table',
  'refcount table',
  'snapshot table',
  'bitmap directory',
  'bitmap table',
  'L2 table',
  'refcount block',
  'L1 table of a snapshot',
] as const;
export type Table = (typeof TABLES)[number];

/** Where the file ends, by where the table begins and how long it is. */
export const CUTS = {
  whole: ({ at, length }) => at + length,
  'ends 512 bytes into it': ({ at }) => at + 512,
  'ends in its middle': ({ at, length }) => at + length / 2,
  'ends where it begins': ({ at }) => at,
  'ends a cluster before it': ({ at }) => at - CLUSTER,
} as const satisfies Record<string, (table: { readonly at: number; readonly length: number }) => number>;
export type Cut = keyof typeof CUTS;

/** One snapshot per name, data in two L2 tables, bitmaps where they are what is cut. */
async function goodImage(table: Table): Promise<Uint8Array> {
  const { image, device } = await openBytes(await newImage({ virtualSize: DISK, clusterSize: CLUSTER }));
  await image.write(0, filled(3 * CLUSTER, 1));
  await image.write(DISK / 2, filled(CLUSTER, 2));
  const names = table.includes('snapshot')
    ? Array.from({ length: 24 }, (_, index) => `snapshot-${String(index)}`)
    : [];
  for (const name of names) await image.snapshots.create({ name, seconds: 0, nanoseconds: 0 });
  if (names.length > 0) await image.write(0, filled(CLUSTER, 3));
  await image.close();
  const bytes = device.contents();
  if (!table.startsWith('bitmap')) return bytes;
  return (
    await withBitmaps(
      bytes,
      Array.from({ length: 24 }, (_, index) => `bitmap-${String(index)}`),
    )
  ).bytes;
}

/** Where the pointer to the table is, and how long the table is, in bytes. */
async function pointerOf(
  bytes: Uint8Array,
  table: Table,
): Promise<{ readonly pointer: number; readonly length: number }> {
  const { image } = await openBytes(bytes, { readOnly: true });
  const editor = new ImageEditor(bytes);
  const { l1Entries, refcountTableClusters } = image.header.values;
  const snapshotBytes = image.snapshots.table.byteLength;
  const extension = bitmapsExtension(image.header)?.extension.data ?? new Uint8Array(0);
  await image.abandon();
  const inHeader = Buffer.from(bytes).indexOf(extension);
  const directory = extension.byteLength > 0 ? Number(editor.u64(inHeader + 16)) : 0;
  switch (table) {
    case 'L1 table':
      return { pointer: FIELD.l1Offset, length: l1Entries * 8 };
    case 'refcount table':
      return { pointer: FIELD.refcountTableOffset, length: refcountTableClusters * CLUSTER };
    case 'snapshot table':
      return { pointer: FIELD.snapshotsOffset, length: snapshotBytes };
    case 'bitmap directory':
      return { pointer: inHeader + 16, length: Number(editor.u64(inHeader + 8)) };
    case 'bitmap table':
      return { pointer: directory, length: CLUSTER };
    case 'L2 table':
      return { pointer: editor.l1, length: CLUSTER };
    case 'refcount block':
      return { pointer: editor.refcountTable, length: CLUSTER };
    case 'L1 table of a snapshot':
      return { pointer: editor.snapshotTable, length: l1Entries * 8 };
  }
}

/** A cut of the file that a table ends. */
export async function cutImage(table: Table, cut: Cut): Promise<Uint8Array> {
  const good = await goodImage(table);
  const { pointer, length } = await pointerOf(good, table);
  const editor = new ImageEditor(good);
  const padding = (CLUSTER - (good.byteLength % CLUSTER)) % CLUSTER;
  // A free cluster between the rest of the file and the table.
  const at = good.byteLength + padding + CLUSTER;
  const whole = Buffer.alloc(at + Math.ceil(length / CLUSTER) * CLUSTER);
  whole.set(good);
  const flags = editor.u64(pointer) & ~OFFSET;
  const from = Number(editor.u64(pointer) & OFFSET);
  whole.copyWithin(at, from, from + length);
  const moved = new ImageEditor(whole).setU64(pointer, BigInt(at) | flags);
  moved.setRefcount(at, 1).setRefcount(from, 0);
  return moved.cut(CUTS[cut]({ at, length })).bytes;
}
