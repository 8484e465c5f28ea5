/**
 * Good images that are made to be damaged: one of each feature of qcow2 and QED, small, with every
 * structure in use.
 *
 * Invariant: all files are in the folder `vm`, the image as `vm/disk`; nothing depends on a clock
 * or on chance.
 */

import { openImage, type CreateImageOptions } from '../../../src/format/registry.ts';
import type { CommitPolicy } from '../../../src/format/commit-policy.ts';
import { filled, RecordedFiles } from '../recorded-files.ts';
import { sealBtree } from './btree-fields.ts';
import { withBitmaps } from '../qcow2/image-bytes.ts';

export const IMAGE = 'vm/disk';
export const BACKING = 'vm/base';
const DATA_FILE = 'vm/data';

export const BASE_FORMATS = ['qcow2', 'qed', 'btree'] as const;
export type BaseFormat = (typeof BASE_FORMATS)[number];

export interface BaseImage {
  readonly name: string;
  readonly format: BaseFormat;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Makes the checksums of a damaged copy right. */
  readonly seal?: ((bytes: Uint8Array<ArrayBuffer>) => void) | undefined;
  /** The files beside it, by name. */
  readonly beside: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

interface Recipe extends Omit<CreateImageOptions, 'device' | 'virtualSize' | 'format'> {
  readonly name: string;
  readonly format: BaseFormat;
  readonly virtualSize?: number;
  readonly hasSnapshots?: boolean;
  readonly hasCompressed?: boolean;
  readonly bitmaps?: readonly string[];
  /** Never closed: the dirty bit, or QED's mark, stays. */
  readonly isDirty?: boolean;
  /** A few hundred extents, for more than one node. */
  readonly isScattered?: boolean;
  readonly isSealed?: boolean;
  readonly commit?: CommitPolicy;
}

const KIB = 1024;
const MIB = 1024 * KIB;
const backingFile = { name: 'base', format: 'raw' } as const;

const RECIPES: readonly Recipe[] = [
  { name: 'qcow2 of 512-byte clusters', format: 'qcow2', clusterSize: 512, virtualSize: MIB },
  { name: 'qcow2 of version 2', format: 'qcow2', shape: { compat: '0.10' }, hasSnapshots: true },
  { name: 'lazy qcow2, not closed', format: 'qcow2', refcounts: 'lazy', isDirty: true },
  { name: 'qcow2 of 1-bit refcounts', format: 'qcow2', shape: { refcountBits: 1 } },
  { name: 'qcow2 of 64-bit refcounts', format: 'qcow2', shape: { refcountBits: 64 }, hasSnapshots: true },
  {
    name: 'qcow2 of subclusters',
    format: 'qcow2',
    clusterSize: 16 * KIB,
    shape: { extendedL2: true },
    hasSnapshots: true,
    hasCompressed: true,
  },
  { name: 'zlib qcow2', format: 'qcow2', hasCompressed: true, hasSnapshots: true },
  { name: 'zstd qcow2', format: 'qcow2', shape: { compressionType: 'zstd' }, hasCompressed: true },
  { name: 'qcow2 with bitmaps', format: 'qcow2', bitmaps: ['daily', 'hourly'] },
  { name: 'qcow2 over a backing file', format: 'qcow2', backingFile, hasSnapshots: true },
  { name: 'qcow2 with a data file', format: 'qcow2', shape: { dataFile: 'plain' } },
  { name: 'QED', format: 'qed', virtualSize: 16 * MIB },
  { name: 'QED over a backing file, not closed', format: 'qed', backingFile, isDirty: true },
  { name: 'B-tree', format: 'btree', hasSnapshots: true, isScattered: true },
  {
    name: 'B-tree with right checksums',
    format: 'btree',
    hasSnapshots: true,
    isScattered: true,
    isSealed: true,
  },
  {
    name: 'B-tree of nodes of 64 KiB',
    format: 'btree',
    shape: { nodeSize: 65_536 },
    hasSnapshots: true,
    isScattered: true,
    isSealed: true,
  },
  { name: 'B-tree, journal, not closed', format: 'btree', commit: 'journal', isDirty: true, isSealed: true },
  {
    name: 'B-tree over a backing file, one-sync, not closed',
    format: 'btree',
    commit: 'one-sync',
    backingFile,
    isDirty: true,
    isSealed: true,
  },
];

/** @param format default: images of all of them */
export function makeBaseImages(format?: BaseFormat): Promise<readonly BaseImage[]> {
  const recipes = RECIPES.filter((recipe) => format === undefined || recipe.format === format);
  return Promise.all(recipes.map(makeBase));
}

async function makeBase(recipe: Recipe): Promise<BaseImage> {
  const { name, format, bitmaps } = recipe;
  const files = new RecordedFiles();
  const virtualSize = recipe.virtualSize ?? 4 * MIB;
  const clusterSize = recipe.clusterSize ?? 4 * KIB;
  files.put(BACKING, filled(MIB, 0xbb));
  const hasDataFile = recipe.shape?.dataFile !== undefined;
  const dataFile = hasDataFile ? { name: 'data', device: files.storage.create(DATA_FILE) } : undefined;
  const hasClusters = format !== 'btree';
  await files.create(IMAGE, {
    ...recipe,
    virtualSize,
    clusterSize: hasClusters ? clusterSize : undefined,
    dataFile,
  });
  if (bitmaps !== undefined) files.put(IMAGE, (await withBitmaps(files.contents(IMAGE), bitmaps)).bytes);
  if (recipe.hasSnapshots === true) await takeSnapshots(files, format, clusterSize);
  await fill(files, recipe, clusterSize);
  const beside = new Map([[BACKING, files.contents(BACKING)]]);
  if (hasDataFile) beside.set(DATA_FILE, files.contents(DATA_FILE));
  const seal = recipe.isSealed === true ? sealBtree : undefined;
  return { name, format, bytes: files.contents(IMAGE), beside, seal };
}

async function takeSnapshots(files: RecordedFiles, format: BaseFormat, clusterSize: number): Promise<void> {
  const image = await openImage({ format, name: IMAGE, files, readOnly: false });
  await image.write(0, filled(2 * clusterSize, 1));
  await image.snapshots?.create({ name: 'first', seconds: 1, nanoseconds: 0 });
  await image.write(0, filled(clusterSize, 2));
  await image.snapshots?.create({ name: 'second', seconds: 2, nanoseconds: 0 });
  await image.close();
}

async function fill(files: RecordedFiles, recipe: Recipe, cluster: number): Promise<void> {
  const { format, commit } = recipe;
  const image = await openImage({ format, name: IMAGE, files, readOnly: false, commit });
  if (recipe.hasCompressed === true) {
    for (const at of [10, 11, 12]) await image.writeCompressed?.(at * cluster, filled(cluster, at));
    await image.endCompressedWrites?.();
  }
  // The journal has its place with the first commit, and a record with the next.
  if (commit === 'journal') {
    await image.write(2 * cluster, filled(cluster, 2));
    await image.flush('guest-flush');
  }
  for (const at of [0, 5, 6, 7, 30, 100]) await image.write(at * cluster, filled(cluster, at + 1));
  if (recipe.isScattered === true) {
    for (let block = 200; block < 800; block += 2) {
      await image.write(block * cluster, filled(cluster, block % 256));
    }
  }
  await image.write(8 * cluster + 512, filled(512, 0xee));
  await image.writeZeroes(6 * cluster, cluster, { unmap: false });
  await image.discard(30 * cluster, cluster);
  await image.write(image.virtualSize - cluster, filled(512, 9));
  if (recipe.isDirty === true) {
    await image.flush('guest-flush');
    await image.abandon();
  } else {
    await image.close();
  }
}
