/**
 * Good images that are made by QEMU to be damaged: every version, several cluster sizes and
 * refcount widths, with snapshots, compressed clusters, subclusters, bitmaps and data files; a few
 * dozen clusters each.
 */

import type { QemuDirectory } from '../qemu-directory.ts';

export interface DamageBase {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /**
   * The guest data of an image that keeps it in another file, which QEMU looks for beside the
   * image.
   */
  readonly dataFile: { readonly name: string; readonly bytes: Uint8Array<ArrayBuffer> } | undefined;
  /**
   * `qemu-img check -r` drops all snapshots of an image that has bitmaps too: it is not what a
   * repair is held against.
   */
  readonly losesSnapshots: boolean;
}

interface Recipe {
  /** Of `qemu-img create`. */
  readonly options: string;
  /** KiB for each unit of the guest's writes. */
  readonly scale: number;
  readonly snapshot?: boolean;
  readonly bitmap?: boolean;
  readonly resized?: boolean;
}

const RECIPES: readonly Recipe[] = [
  { options: 'compat=1.1,cluster_size=4096', scale: 4, snapshot: true },
  { options: 'compat=0.10,cluster_size=4096', scale: 4, snapshot: true },
  { options: 'compat=1.1,cluster_size=512,refcount_bits=1', scale: 1 },
  { options: 'compat=1.1,cluster_size=65536', scale: 16, snapshot: true },
  { options: 'compat=1.1,cluster_size=4096,refcount_bits=64', scale: 4 },
  { options: 'compat=1.1,cluster_size=512,refcount_bits=8', scale: 1, snapshot: true },
  { options: 'compat=1.1,cluster_size=4096,refcount_bits=2,lazy_refcounts=on', scale: 4 },
  { options: 'compat=0.10,cluster_size=512', scale: 1 },
  { options: 'compat=1.1,cluster_size=16384,extended_l2=on', scale: 16, snapshot: true },
  { options: 'compat=1.1,cluster_size=4096,compression_type=zstd', scale: 4, snapshot: true },
  { options: 'compat=1.1,cluster_size=4096,refcount_bits=32', scale: 4, snapshot: true, bitmap: true },
  { options: 'compat=1.1,cluster_size=4096', scale: 4, snapshot: true, resized: true },
  { options: 'compat=1.1,cluster_size=512', scale: 1, bitmap: true },
  { options: 'compat=1.1,cluster_size=4096,data_file=plain', scale: 4 },
  { options: 'compat=1.1,cluster_size=4096,data_file=raw,data_file_raw=on', scale: 4 },
];

export const BASE_COUNT = RECIPES.length;

export function makeDamageBases(qemu: QemuDirectory): readonly DamageBase[] {
  return RECIPES.map((recipe) => makeBase(qemu, recipe));
}

function makeBase(qemu: QemuDirectory, recipe: Recipe): DamageBase {
  const { options, scale, snapshot, bitmap, resized } = recipe;
  const at = (unit: number): string => `${String(unit * scale)}k`;
  const option = (name: string): string | undefined => new RegExp(`${name}=(\\w+)`).exec(options)?.[1];
  const dataFile = option('data_file');
  qemu.img('create', '-q', '-f', 'qcow2', '-o', options, 'base', `${String(2 * scale)}M`);
  for (const name of bitmap === true ? ['a', 'b'] : []) {
    qemu.img('bitmap', '--add', '-f', 'qcow2', 'base', name);
  }
  const isV3 = options.includes('1.1');
  qemu.io(
    'qcow2',
    'base',
    `write -P 1 0 ${at(12)}`,
    `write -P 2 ${at(700)} ${at(9)}`,
    ...(dataFile === undefined ? [`write -c -P 3 ${at(128)} ${option('cluster_size') ?? ''}`] : []),
    ...(isV3 ? [`write -z ${at(2)} ${at(1)}`, `discard ${at(4)} ${at(1)}`] : []),
  );
  if (snapshot === true) {
    qemu.img('snapshot', '-c', 'a', 'base');
    qemu.io('qcow2', 'base', `write -P 5 0 ${at(2)}`, `write -P 6 ${at(1500)} ${at(3)}`);
  }
  if (resized === true) {
    qemu.img('resize', '-q', '-f', 'qcow2', 'base', `${String(3 * scale)}M`);
    qemu.img('snapshot', '-c', 'larger', 'base');
    qemu.io('qcow2', 'base', `write -P 8 ${at(2500)} ${at(3)}`);
  }
  return {
    bytes: qemu.get('base'),
    dataFile: dataFile === undefined ? undefined : { name: dataFile, bytes: qemu.get(dataFile) },
    losesSnapshots: snapshot === true && bitmap === true,
  };
}
