/**
 * Broken images for the parity of repairs: how each is made with QEMU's tools, and what is then
 * broken in it.
 *
 * Plain damages meet several layouts, in turns, so that each meets version 2 or 3, small clusters
 * and large, and refcounts of other than 16 bits; special images exist in one layout.
 */

import type { RepairScope } from '../../src/format/check-report.ts';
import { COPIED, type ImageEditor } from '../format/qcow2/image-editor.ts';

export interface RepairCase {
  readonly what: string;
  readonly format: 'qcow2' | 'qed';
  /** Of `qemu-img create`. */
  readonly options: string;
  /** Of `qemu-io`; then of `qemu-img`, with `IMAGE` for the path; then of `qemu-io` again. */
  readonly written: readonly string[];
  readonly then?: readonly string[];
  readonly writtenAfter?: readonly string[];
  /** The image is not closed. */
  readonly crashes?: boolean;
  readonly spoil?: (image: ImageEditor) => void;
  readonly spoilQed?: (bytes: Buffer) => Buffer;
  readonly scopes: readonly RepairScope[];
  /**
   * Ours is called here, and not started as a program: the same damage is repaired by the command
   * line in another layout.
   */
  readonly inProcess?: boolean;
}

const LAYOUTS: readonly (readonly [options: string, clusterSize: number])[] = [
  ['compat=1.1,cluster_size=65536', 65_536],
  ['compat=0.10,cluster_size=4096', 4096],
  ['compat=1.1,cluster_size=512,refcount_bits=8', 512],
  ['compat=1.1,cluster_size=4096,refcount_bits=2', 4096],
  ['compat=1.1,cluster_size=2097152,refcount_bits=64', 2_097_152],
];
const BOTH: readonly RepairScope[] = ['leaks', 'all'];
const ALL: readonly RepairScope[] = ['all'];
const DIRTY = 1;
const CORRUPT = 2;

type Spoil = (image: ImageEditor) => void;

/** Damages of an image whose first cluster and third to fifth are written. */
const PLAIN: readonly {
  readonly what: string;
  readonly spoil: Spoil;
  readonly scopes: readonly RepairScope[];
  /** Version 2 has no such thing. */
  readonly v3?: boolean;
}[] = [
  { what: 'nothing', spoil: () => undefined, scopes: BOTH },
  {
    what: 'leaked clusters within the file, some side by side',
    spoil: (image) => {
      const end = image.bytes.length;
      image.lengthen(6);
      for (const n of [0, 1, 3, 5]) image.setRefcount(end + n * image.clusterSize, 1);
    },
    scopes: BOTH,
  },
  {
    what: 'leaked clusters past the end of the file',
    spoil: (image) => {
      const end = Math.ceil(image.bytes.length / image.clusterSize) * image.clusterSize;
      image.setRefcount(end, 1).setRefcount(end + 2 * image.clusterSize, 1);
    },
    scopes: ALL,
  },
  {
    what: 'refcounts too low: two entries lead to one cluster',
    spoil: (image) => void image.setU64(image.l2() + 8, image.u64(image.l2())),
    scopes: BOTH,
  },
  {
    what: 'refcounts too high, of data and of a table',
    spoil: (image) => void image.setRefcount(image.data(), 2).setRefcount(image.l2(), 3),
    scopes: BOTH,
  },
  {
    what: 'wrong copied flags, of a table and of data',
    spoil: (image) => {
      image.flip(image.l1, COPIED).flip(image.l2(), COPIED);
      image.flip(image.l2() + 16, COPIED);
    },
    scopes: BOTH,
  },
  {
    what: 'the refcount of a cluster in use lost',
    spoil: (image) => void image.setRefcount(image.data(), 0),
    scopes: BOTH,
  },
  {
    what: 'all refcounts lost',
    spoil: (image) => {
      image.bytes.fill(0, image.refcountBlock(), image.refcountBlock() + image.clusterSize);
    },
    scopes: ALL,
  },
  {
    what: 'no refcount block',
    spoil: (image) => void image.setU64(image.refcountTable, 0),
    scopes: ALL,
  },
  {
    what: 'the mark of corruption, and a leak',
    spoil: (image) => {
      image.setU64(72, CORRUPT).lengthen(1);
      image.setRefcount(image.bytes.length - image.clusterSize, 1);
    },
    scopes: BOTH,
    v3: true,
  },
  {
    what: 'an unknown autoclear feature, and a lost refcount',
    spoil: (image) => void image.setU64(88, 1n << 40n).setRefcount(image.data(), 0),
    scopes: BOTH,
    v3: true,
  },
];

function plainCases(): readonly RepairCase[] {
  return PLAIN.flatMap(({ what, spoil, scopes, v3 = false }, index) => {
    const layouts = LAYOUTS.filter(([options]) => !v3 || !options.includes('0.10'));
    const [first, second] = [index, index + 2].map((turn) => layouts[turn % layouts.length]);
    return [first, second].flatMap((layout, turn) => {
      if (layout === undefined) return [];
      const [options, size] = layout;
      const written = [`write 0 ${String(size)}`, `write ${String(2 * size)} ${String(3 * size)}`];
      return [{ what, format: 'qcow2' as const, options, written, spoil, scopes, inProcess: turn > 0 }];
    });
  });
}

const MANY_WRITES = ['write 0 200k', 'write 3M 100k', 'flush', 'discard 64k 64k', 'write 5M 70k', 'flush'];

function dirtyCases(): readonly RepairCase[] {
  const layouts = ['65536', '4096,refcount_bits=1', '4096,refcount_bits=32', '65536,extended_l2=on'];
  const dirty = { format: 'qcow2' as const, scopes: ALL };
  return [
    ...layouts.map((layout, turn) => ({
      ...dirty,
      inProcess: turn > 0,
      what: 'not closed, lazy refcounts',
      options: `lazy_refcounts=on,cluster_size=${layout}`,
      written: MANY_WRITES,
      crashes: true,
    })),
    {
      ...dirty,
      what: 'not closed, refcounts in many blocks',
      options: 'lazy_refcounts=on,cluster_size=512',
      written: ['write 0 3M', 'flush', 'write 3M 2M', 'flush'],
      crashes: true,
    },
    {
      ...dirty,
      what: 'not closed, and in order all the same',
      options: 'lazy_refcounts=on',
      written: ['write 0 64k'],
      spoil: (image) => void image.setU64(72, DIRTY),
      scopes: BOTH,
    },
    {
      ...dirty,
      what: 'not closed and marked as corrupt',
      options: 'lazy_refcounts=on',
      written: ['write 0 64k'],
      spoil: (image) => void image.setU64(72, DIRTY | CORRUPT).setRefcount(image.data(), 0),
    },
  ];
}

const SNAPSHOT: readonly string[] = ['snapshot', '-c', 'kept', 'IMAGE'];

const SPECIAL: readonly Omit<RepairCase, 'format'>[] = [
  {
    what: 'leaks in the range of several refcount blocks',
    options: 'cluster_size=512',
    written: ['write 0 1M'],
    spoil: (image) => {
      for (let n = 0; n < 30; n += 3) image.setU64(image.l2(n) + 8 * (n % 4), 0).setU64(image.l2(n) + 88, 0);
    },
    scopes: ['leaks'],
  },
  {
    what: 'refcounts too high in several blocks',
    options: 'cluster_size=512',
    written: ['write 0 1M'],
    spoil: (image) => {
      for (let n = 10; n < 60; n += 7) image.setRefcount(image.data(n, n % 5), 2 + (n % 3));
    },
    scopes: ['leaks'],
  },
  {
    what: 'the second refcount block lost, with data behind it',
    options: 'cluster_size=512',
    written: ['write 0 1M'],
    spoil: (image) => void image.setU64(image.refcountTable + 8, 0),
    scopes: ALL,
  },
  {
    what: 'every other refcount block lost, in a table of several clusters',
    options: 'cluster_size=512,refcount_bits=64',
    written: ['write 0 2M', 'discard 256k 256k', 'write 4M 256k'],
    spoil: (image) => {
      for (let block = 0; block < 60; block += 2) image.setU64(image.refcountTable + 8 * block, 0);
    },
    scopes: ALL,
    inProcess: true,
  },
  {
    what: 'a refcount table past the end of the file',
    options: 'cluster_size=4096',
    written: ['write 0 1M'],
    spoil: (image) => void image.setU64(48, 0x400_0000).setU32(56, 3),
    scopes: BOTH,
    inProcess: true,
  },
  {
    what: 'a refcount table that is longer than the file says',
    options: 'cluster_size=4096',
    written: ['write 0 1M'],
    spoil: (image) => void image.setU32(56, 9),
    scopes: ALL,
    inProcess: true,
  },
  {
    what: 'a refcount block past the end of the file',
    options: 'cluster_size=4096',
    written: ['write 0 1M'],
    spoil: (image) => void image.setU64(image.refcountTable + 8, 0x20_0000),
    scopes: ALL,
  },
  {
    what: 'one refcount block in two places of the table',
    options: 'cluster_size=4096',
    written: ['write 0 1M'],
    spoil: (image) => void image.setU64(image.refcountTable + 8, image.refcountBlock()),
    scopes: ALL,
  },
  {
    what: 'data on a refcount block',
    options: 'cluster_size=4096',
    written: ['write 0 1M'],
    spoil: (image) => void image.setU64(image.l2() + 80, COPIED | BigInt(image.refcountBlock())),
    scopes: ALL,
  },
  {
    what: 'refcounts of a snapshot too low and too high',
    options: 'cluster_size=4096',
    written: ['write 0 100k'],
    then: SNAPSHOT,
    writtenAfter: ['write 8k 20k'],
    spoil: (image) => {
      image.setRefcount(image.data(), 1).setRefcount(image.data(1), 5);
      image.setRefcount(image.snapshotTable, 2);
    },
    scopes: BOTH,
  },
  {
    what: 'refcounts of a snapshot lost',
    options: 'cluster_size=4096',
    written: ['write 0 100k'],
    then: SNAPSHOT,
    writtenAfter: ['write 8k 20k'],
    spoil: (image) => void image.bytes.fill(0, image.refcountBlock(), image.refcountBlock() + 512),
    scopes: ALL,
  },
  {
    what: 'zero clusters whose place is not aligned',
    options: 'cluster_size=4096',
    written: ['write 0 100k'],
    spoil: (image) => {
      image.setU64(image.l2(), COPIED | BigInt(image.data(5) + 512) | 1n);
      image.setU64(image.l2() + 8, COPIED | BigInt(image.data(7) + 1024) | 1n);
    },
    scopes: ALL,
  },
  {
    what: 'data whose place is not aligned, which cannot be repaired',
    options: 'cluster_size=4096',
    written: ['write 0 100k'],
    spoil: (image) => void image.setU64(image.l2(), COPIED | BigInt(image.data(5) + 512)),
    scopes: ALL,
  },
  {
    what: 'a subcluster both allocated and zero, which cannot be repaired',
    options: 'cluster_size=65536,extended_l2=on',
    written: ['write 0 100k'],
    spoil: (image) => void image.setU64(image.l2() + 8, 0x0000_0001_0000_0003n),
    scopes: ALL,
  },
  {
    what: 'refcounts of packed clusters too low',
    options: 'cluster_size=4096',
    written: ['write 0 8k', 'write -c 8k 4k', 'write -c 12k 4k'],
    spoil: (image) => void image.setRefcount(Number(image.u64(image.l2() + 16) & 0xffff_ffffn), 1),
    scopes: ALL,
  },
  {
    what: 'an incomplete snapshot table',
    options: 'cluster_size=4096',
    written: ['write 0 8k'],
    then: SNAPSHOT,
    // What follows the one entry reads as two of zeroes.
    spoil: (image) => void image.setU32(60, 3).lengthen(1),
    scopes: ALL,
  },
  {
    what: 'bitmaps that another program did not keep in step',
    options: 'cluster_size=4096',
    written: ['write 0 8k'],
    spoil: (image) => {
      // An extension of bitmaps, 24 bytes long, in place of what follows the header, and no
      // autoclear bit.
      image.bytes.fill(0, 112, 4096);
      image.setU32(112, 0x2385_2875).setU32(116, 24).setU32(120, 1);
      image.setU64(128, 32).setU64(136, 9 * 4096);
      image.lengthen(1).setRefcount(image.bytes.length - 4096, 1);
    },
    scopes: ['leaks'],
  },
  {
    what: 'a leak and a wrong flag beside a data file',
    options: 'cluster_size=4096,data_file=DATA',
    written: ['write 0 100k'],
    spoil: (image) => {
      image.flip(image.l2(), COPIED).lengthen(1);
      image.setRefcount(image.bytes.length - 4096, 1);
    },
    scopes: ALL,
  },
];

/** In images of 4 KiB clusters. */
const QED_L1 = 4096;
/** An entry that is no cluster of the file. */
const NOWHERE = 1n << 40n;
const secondLevel = (bytes: Buffer): number => Number(bytes.readBigUInt64LE(QED_L1));

/** Breaks the second entry of the first second-level table. */
export function loseQedEntry(bytes: Buffer): Buffer {
  bytes.writeBigUInt64LE(NOWHERE, secondLevel(bytes) + 8);
  return bytes;
}

const QED: readonly Omit<RepairCase, 'format' | 'options' | 'scopes'>[] = [
  { what: 'in order', written: ['write 0 200k'] },
  {
    what: 'a data entry that leads nowhere',
    written: ['write 0 200k'],
    spoilQed: loseQedEntry,
  },
  {
    what: 'entries of both levels that lead nowhere',
    written: ['write 0 200k', 'write 13M 100k'],
    spoilQed: (bytes) => {
      bytes.writeBigUInt64LE(NOWHERE, QED_L1 + 16);
      return loseQedEntry(bytes);
    },
  },
  {
    what: 'leaked clusters, which QED cannot give back',
    written: ['write 0 200k'],
    spoilQed: (bytes) => Buffer.concat([bytes, Buffer.alloc(8192)]),
  },
  {
    what: 'two entries for one cluster, which cannot be repaired',
    written: ['write 0 200k'],
    spoilQed: (bytes) => {
      const table = secondLevel(bytes);
      bytes.writeBigUInt64LE(bytes.readBigUInt64LE(table), table + 8);
      return bytes;
    },
  },
  {
    what: 'an unknown autoclear feature',
    written: ['write 0 200k'],
    spoilQed: (bytes) => {
      bytes[32] = 2;
      return bytes;
    },
  },
];

export const REPAIR_CASES: readonly RepairCase[] = [
  ...plainCases(),
  ...dirtyCases(),
  ...SPECIAL.map((each) => ({ ...each, format: 'qcow2' as const })),
  ...QED.map((each) => ({ ...each, format: 'qed' as const, options: 'cluster_size=4096', scopes: ALL })),
];
