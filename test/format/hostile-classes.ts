/**
 * The classes of hostile images, each made from a good one, with what every command must answer:
 * one table, used by the test of the command line.
 *
 * `refused` is the code of the one error that all commands give. Where the damage is deeper than
 * the header, commands differ: `answers` has for each what it ends with, and who is not named there
 * serves the image.
 */

import { deflateRawSync } from 'node:zlib';

import { MemoryDevice } from '../../src/device/memory-device.ts';
import { createQcow2 } from '../../src/format/qcow2/create.ts';
import { openQcow2 } from '../../src/format/qcow2/open.ts';
import { createQed } from '../../src/format/qed/create.ts';
import { openQed } from '../../src/format/qed/open.ts';
import { filled } from './recorded-files.ts';
import { patched, withSnapshot, type Patch } from './qcow2/image-bytes.ts';

export const VIRTUAL_SIZE = 1024 ** 2;
const CLUSTER = 65_536;
const REFCOUNT_TABLE = CLUSTER;
const REFCOUNT_BLOCK = 2 * CLUSTER;
const L1 = 3 * CLUSTER;
const L2 = 4 * CLUSTER;
const DATA = 5 * CLUSTER;
const EXTENSIONS = 112;
const U32_MAX = 0xffff_ffff;
const U64_MAX = 2n ** 64n - 1n;
const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

type Bytes = Uint8Array<ArrayBuffer>;

/**
 * An exit code with which a check or a repair reports on the image, or the code of the error that
 * refuses it.
 */
export type Answer = 0 | 1 | 2 | 3 | string;
export type Answerer = 'check' | 'repair' | 'map' | 'convert' | 'record' | 'replay' | 'resize';

export interface HostileClass {
  readonly name: string;
  readonly format: 'qcow2' | 'qed';
  /** Makes the image from a good one of its format. */
  readonly spoil: (good: Bytes) => Bytes;
  /** The code of every command's error. */
  readonly refused?: string;
  /** Where the error says that it is, in bytes. */
  readonly offset?: number;
  /**
   * Content is that of another program's format: the code where the format is detected; `check`
   * ends with 63.
   */
  readonly foreign?: string;
  /** What commands answer that do not all refuse it. */
  readonly answers?: Partial<Readonly<Record<Answerer, Answer>>>;
  /**
   * It is too short to claim a format: commands that detect the format treat it as raw, the others
   * refuse it.
   */
  readonly isTakenForRaw?: boolean;
  /**
   * Only files behind the image are at stake: `info` and `check` look at the image alone, the
   * others refuse it.
   */
  readonly behind?: string;
}

export const GOOD = { qcow2: goodQcow2, qed: goodQed } as const;

/** One written cluster: L2 at cluster 4, data at 5. */
async function goodQcow2(): Promise<Bytes> {
  const device = new MemoryDevice();
  await createQcow2({ device, virtualSize: VIRTUAL_SIZE });
  const image = await openQcow2({ ...OPEN, device });
  await image.write(0, filled(CLUSTER, 1));
  await image.close();
  return device.contents();
}

async function goodQed(): Promise<Bytes> {
  const device = new MemoryDevice();
  await createQed({ device, virtualSize: VIRTUAL_SIZE });
  const image = await openQed({ ...OPEN, device });
  await image.write(0, filled(CLUSTER, 1));
  await image.close();
  return device.contents();
}

const OPEN = {
  readOnly: false,
  readPurpose: 'data',
  openBacking: () => Promise.reject(new Error('test bug: no backing file')),
} as const;

const patch =
  (...patches: readonly Patch[]) =>
  (good: Bytes): Bytes =>
    patched(good, ...patches);
const cut = (length: number) => (good: Bytes) => good.slice(0, length);
const entry = (host: number | bigint): bigint => COPIED | BigInt(host);

/** A header field with values that are all refused with one code, at the field. */
function field(
  name: string,
  at: number,
  code: string,
  width: 'u32' | 'u64',
  values: readonly (number | bigint)[],
  answers?: HostileClass['answers'],
): HostileClass[] {
  return values.map((value) => ({
    name: `${name} ${String(value)}`,
    format: 'qcow2',
    spoil: patch(width === 'u32' ? { at, u32: Number(value) } : { at, u64: BigInt(value) }),
    refused: `qcow2-${code}`,
    offset: at,
    ...(answers === undefined ? {} : { answers }),
  }));
}

function qedField(
  name: string,
  at: number,
  code: string,
  width: 32 | 64,
  values: readonly (number | bigint)[],
): HostileClass[] {
  return values.map((value) => ({
    name: `${name} ${String(value)}`,
    format: 'qed',
    spoil: (good) => {
      const bytes = good.slice();
      const view = new DataView(bytes.buffer);
      if (width === 32) view.setUint32(at, Number(value), true);
      else view.setBigUint64(at, BigInt(value), true);
      return bytes;
    },
    refused: `qed-${code}`,
    offset: at,
  }));
}

const qcow2 = (
  name: string,
  spoil: HostileClass['spoil'],
  expected: Omit<HostileClass, 'name' | 'format' | 'spoil'>,
): HostileClass => ({ name, format: 'qcow2', spoil, ...expected });

/** A backing name right behind the extensions, without a format or with one. */
const backing = (name: string, format?: string) => (good: Bytes) => {
  const bytes = good.slice();
  const at = 1024;
  bytes.fill(0, EXTENSIONS, at);
  const view = new DataView(bytes.buffer);
  if (format !== undefined) {
    view.setUint32(EXTENSIONS, 0xe279_2aca);
    view.setUint32(EXTENSIONS + 4, format.length);
    bytes.set(Buffer.from(format), EXTENSIONS + 8);
  }
  bytes.set(Buffer.from(name), at);
  view.setBigUint64(8, BigInt(at));
  view.setUint32(16, name.length);
  return bytes;
};

const dataFile = (name: string) => (good: Bytes) => {
  const bytes = patched(good, { at: 72, u64: 4n });
  bytes.fill(0, EXTENSIONS, 1024);
  const view = new DataView(bytes.buffer);
  view.setUint32(EXTENSIONS, 0x4441_5441);
  view.setUint32(EXTENSIONS + 4, name.length);
  bytes.set(Buffer.from(name), EXTENSIONS + 8);
  return bytes;
};

/** A compressed cluster in place of the written one. */
const compressed = (data: Uint8Array, sectors: number) => (good: Bytes) => {
  const bytes = new Uint8Array(DATA + CLUSTER);
  bytes.set(good.subarray(0, DATA));
  bytes.set(data.subarray(0, CLUSTER), DATA);
  return patched(bytes, { at: L2, u64: COMPRESSED | (BigInt(sectors) << 54n) | BigInt(DATA) });
};

const BAD_CLUSTER = 'qcow2-bad-compressed-cluster';
/** A check reports it, a repair repairs it, or leaves it. */
const REPAIRED = { check: 2, repair: 0 } as const;
const LEFT = { check: 2, repair: 2 } as const;
/** What reads the damaged entry meets it. */
const readers = (code: string) => ({ map: code, convert: code, replay: code });

const QCOW2: readonly HostileClass[] = [
  ...[0, 3].map((length) =>
    qcow2(`header cut after ${String(length)} bytes`, cut(length), {
      refused: 'qcow2-truncated-header',
      isTakenForRaw: true,
      answers: { replay: 'image-misfit' },
    }),
  ),
  ...[4, 71, 103].map((length) =>
    qcow2(`header cut after ${String(length)} bytes`, cut(length), { refused: 'qcow2-truncated-header' }),
  ),
  ...field('version', 4, 'bad-version', 'u32', [0, 4]),
  // A format of its own, which shares qcow2's magic.
  ...field('version', 4, 'bad-version', 'u32', [1]).map((one) => ({ ...one, foreign: 'foreign-format' })),
  ...field('cluster_bits', 20, 'bad-cluster-bits', 'u32', [0, 8, 22, 31, 63]),
  ...field('header_length', 100, 'bad-header-length', 'u32', [0, 103, CLUSTER + 8, U32_MAX]),
  ...field('refcount_order', 96, 'bad-refcount-order', 'u32', [7, 63, 2 ** 31]),
  ...field('incompatible', 72, 'unsupported-feature', 'u64', [1n << 40n, 1n << 63n]),
  qcow2(
    'an unknown feature with a wrong name table',
    (good) => {
      const bytes = patched(good, { at: 72, u64: 1n << 40n });
      bytes.set([0, 40, ...Buffer.from('harmless\n\0')], EXTENSIONS + 8);
      return bytes;
    },
    { refused: 'qcow2-unsupported-feature', offset: 72 },
  ),
  ...field('extension length', EXTENSIONS + 4, 'extension-too-long', 'u32', [U32_MAX]).map((one) => ({
    ...one,
    offset: EXTENSIONS,
  })),
  qcow2(
    'extensions without an end marker',
    patch({ at: EXTENSIONS, u32: 0x1234_5678 }, { at: EXTENSIONS + 4, u32: CLUSTER - EXTENSIONS - 8 }),
    { answers: { check: 0, repair: 0 } },
  ),
  qcow2(
    'an extension over the backing name',
    patch({ at: EXTENSIONS + 4, u32: 1024 }, { at: 8, u64: 512n }, { at: 16, u32: 4 }),
    { refused: 'qcow2-extension-too-long', offset: EXTENSIONS },
  ),
  ...[65_530n, 24n, 2n ** 64n - 8n].map((at) =>
    qcow2(`backing name at ${String(at)}`, patch({ at: 8, u64: at }, { at: 16, u32: 10 }), {
      refused: 'qcow2-bad-backing-offset',
      offset: 8,
    }),
  ),
  ...[1024, U32_MAX].map((length) =>
    qcow2(`backing name of ${String(length)} bytes`, patch({ at: 8, u64: 1024n }, { at: 16, u32: length }), {
      refused: 'qcow2-backing-name-too-long',
      offset: 16,
    }),
  ),
  ...(
    [
      ['/etc/passwd', 'backing-not-allowed'],
      ['../secret', 'backing-not-allowed'],
      ['json:{"driver":"file","filename":"/etc/passwd"}', 'backing-protocol'],
      ['nbd:localhost:10809', 'backing-protocol'],
      ['/dev/zero', 'backing-not-allowed'],
      ['link', 'backing-not-allowed'],
      ['fifo', 'not-a-regular-file'],
      ['evil', 'backing-loop'],
    ] as const
  ).map(([name, behind]) =>
    qcow2(`the backing file ${name}`, backing(name, name === 'evil' ? 'qcow2' : 'raw'), { behind }),
  ),
  qcow2('a backing file of no format, which begins like qcow2', backing('probed'), {
    behind: 'backing-format-missing',
  }),
  qcow2('a backing file of an unknown format', backing('probed', 'vhd'), {
    behind: 'unsupported-backing-format',
  }),
  qcow2('a chain of more backing files than are opened', backing('chain-0', 'qcow2'), {
    behind: 'backing-chain-too-deep',
  }),
  ...(
    [
      ['../secret', 'data-not-allowed'],
      ['/etc/passwd', 'data-not-allowed'],
      ['evil', 'data-file-is-image'],
      ['json:{"driver":"file"}', 'data-protocol'],
    ] as const
  ).map(([name, behind]) =>
    // A check opens the data file, as qemu-img does.
    qcow2(`the data file ${name}`, dataFile(name), { behind, answers: { check: behind, repair: behind } }),
  ),
  ...field('l1_size', 36, 'l1-too-large', 'u32', [U32_MAX, 4_194_305]),
  ...field('l1_size', 36, 'l1-too-small', 'u32', [0]),
  ...field('L1 offset', 40, 'unaligned-offset', 'u64', [L1 + 512]),
  ...field('L1 offset', 40, 'offset-too-large', 'u64', [2n ** 63n]),
  ...field('L1 offset', 40, 'table-past-end', 'u64', [1n << 40n], LEFT),
  ...field('L1 offset', 40, 'offset-too-large', 'u64', [1n << 54n], LEFT),
  ...field('L1 offset', 40, 'table-on-header', 'u64', [0n], LEFT),
  ...field('refcount table offset', 48, 'table-on-header', 'u64', [0n], REPAIRED),
  ...field('refcount table offset', 48, 'unaligned-offset', 'u64', [REFCOUNT_TABLE + 8]),
  ...field('refcount table offset', 48, 'offset-too-large', 'u64', [2n ** 63n]),
  ...field('refcount table offset', 48, 'table-past-end', 'u64', [1n << 40n], REPAIRED),
  ...field('refcount table clusters', 56, 'no-refcount-table', 'u32', [0], REPAIRED),
  ...field('refcount table clusters', 56, 'refcount-table-too-large', 'u32', [129, U32_MAX]),
  ...(
    [
      ['unaligned', BigInt(REFCOUNT_BLOCK + 512), 1, 'qcow2-unaligned-refcount-block'],
      ['0', 0n, 2, 'qcow2-corrupt'],
      ['past the end', 1n << 40n, 2, 'qcow2-corrupt'],
      ['on the refcount table', BigInt(REFCOUNT_TABLE), 2, 'qcow2-corrupt'],
    ] as const
  ).map(([what, u64, check, replay]) =>
    qcow2(`a refcount block ${what}`, patch({ at: REFCOUNT_TABLE, u64 }), {
      answers: { check, repair: 0, replay },
    }),
  ),
  qcow2(
    'a refcount block that occurs twice',
    patch({ at: REFCOUNT_TABLE + 8, u64: BigInt(REFCOUNT_BLOCK) }),
    { answers: REPAIRED },
  ),
  ...(
    [
      ['the header', 0n, 1, 'unaligned-table'],
      ['the L1 table', BigInt(L1), 1, 'qcow2-corrupt'],
      ['a refcount block', BigInt(REFCOUNT_BLOCK), 2, 'qcow2-corrupt'],
    ] as const
  ).map(([what, at, repair, replay]) =>
    qcow2(`an L1 entry to ${what}`, patch({ at: L1, u64: COPIED | at }), {
      answers: { check: 2, repair, replay },
    }),
  ),
  qcow2(
    'two L1 entries to one L2 table, both marked copied',
    patch({ at: 24, u64: 1024n ** 3n }, { at: 36, u32: 2 }, { at: L1 + 8, u64: entry(L2) }),
    { answers: REPAIRED },
  ),
  qcow2('an L1 entry with reserved bits', patch({ at: L1, u64: entry(L2) | 1n }), {
    answers: LEFT,
  }),
  ...(
    [
      ['to the L2 table', entry(L2), { ...REPAIRED, replay: 'qcow2-corrupt' }],
      ['to the header', entry(0), { check: 3, repair: 0, ...readers('qcow2-data-on-header') }],
      ['unaligned', entry(DATA + 512), { ...LEFT, ...readers('qcow2-unaligned-cluster') }],
      ['at 2^55', entry(1n << 55n), { ...LEFT, ...readers('qcow2-offset-too-large') }],
      ['with reserved bits', entry(DATA) | 2n, LEFT],
    ] as const
  ).map(([what, u64, answers]) => qcow2(`an L2 entry ${what}`, patch({ at: L2, u64 }), { answers })),
  qcow2('two entries to one cluster, both marked copied', patch({ at: L2 + 8, u64: entry(DATA) }), {
    answers: REPAIRED,
  }),
  qcow2('a compressed cluster marked copied', patch({ at: L2, u64: COPIED | COMPRESSED | BigInt(DATA) }), {
    answers: { ...LEFT, convert: BAD_CLUSTER, replay: BAD_CLUSTER },
  }),
  qcow2('a compressed cluster past the end', patch({ at: L2, u64: COMPRESSED | (1n << 50n) }), {
    answers: { ...LEFT, convert: BAD_CLUSTER, replay: BAD_CLUSTER },
  }),
  qcow2('a deflate bomb', compressed(deflateRawSync(new Uint8Array(16 * VIRTUAL_SIZE)), 127), {
    answers: { check: 0, repair: 0, convert: BAD_CLUSTER, replay: BAD_CLUSTER },
  }),
  qcow2('an empty compressed cluster', compressed(new Uint8Array(CLUSTER), 0), {
    answers: { check: 0, repair: 0, convert: BAD_CLUSTER, replay: BAD_CLUSTER },
  }),
  qcow2(
    'zstd frames without end',
    (good) =>
      patched(
        compressed(Buffer.alloc(CLUSTER, Buffer.from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0])), 127)(good),
        { at: 72, u64: 8n },
        { at: 104, u32: 0x0100_0000 },
      ),
    { answers: { check: 0, repair: 0, convert: BAD_CLUSTER, replay: BAD_CLUSTER } },
  ),
  qcow2('subclusters in clusters of 512 bytes', patch({ at: 72, u64: 16n }, { at: 20, u32: 9 }), {
    refused: 'qcow2-subclusters-too-small',
    offset: 20,
  }),
  qcow2('a subcluster both allocated and zero', patch({ at: 72, u64: 16n }, { at: L2 + 8, u64: U64_MAX }), {
    answers: { ...LEFT, ...readers('qcow2-bad-subclusters') },
  }),
  qcow2('the compression bit with zlib', patch({ at: 72, u64: 8n }), {
    refused: 'qcow2-bad-compression-type',
    offset: 104,
  }),
  qcow2('compression type 2', patch({ at: 72, u64: 8n }, { at: 104, u32: 0x0200_0000 }), {
    refused: 'qcow2-bad-compression-type',
    offset: 104,
  }),
  qcow2('all refcounts 0', patch(...[0, 8].map((at) => ({ at: REFCOUNT_BLOCK + at, u64: 0n }))), {
    answers: { ...REPAIRED, replay: 'qcow2-corrupt' },
  }),
  ...field('snapshots', 60, 'too-many-snapshots', 'u32', [U32_MAX]),
  ...(
    [
      ['a snapshot table on the header', 1, 0n, REPAIRED],
      ['30,000 snapshots past the end', 30_000, 1n << 40n, REPAIRED],
    ] as const
  ).map(([name, u32, u64, answers]) =>
    qcow2(name, patch({ at: 60, u32 }, { at: 64, u64 }), { refused: 'qcow2-bad-snapshot-table', answers }),
  ),
  ...(
    [
      ['an L1 table above 32 MiB', { at: 8, u32: U32_MAX }, REPAIRED],
      ['an unaligned L1 table', { at: 0, u64: BigInt(L1 + 8) }, REPAIRED],
      ['an L1 table past the end', { at: 0, u64: 1n << 40n }, REPAIRED],
      ['an L1 table at 2^63', { at: 0, u64: 1n << 63n }, { check: 'qcow2-bad-snapshot-table', repair: 0 }],
    ] as const
  ).map(([what, one, answers]) =>
    qcow2(`a snapshot of ${what}`, (good) => withSnapshot(good, { at: 8, u32: 1 }, one), {
      // The snapshot table has no refcount: the first new cluster would be on it.
      answers: { ...answers, replay: 'qcow2-corrupt' },
    }),
  ),
  qcow2(
    'a snapshot of 4 GiB of extra data',
    (good) => withSnapshot(good, { at: 8, u32: 1 }, { at: 36, u32: U32_MAX }),
    { refused: 'qcow2-bad-snapshot-table', answers: { repair: 0 } },
  ),
  qcow2('both dirty and corrupt', patch({ at: 72, u64: 3n }), {
    answers: {
      check: 0,
      repair: 0,
      record: 'qcow2-marked-corrupt',
      replay: 'qcow2-marked-corrupt',
      resize: 'qcow2-marked-corrupt',
    },
  }),
  qcow2(
    'dirty, with a broken refcount block',
    patch({ at: 72, u64: 1n }, { at: REFCOUNT_TABLE, u64: BigInt(REFCOUNT_BLOCK + 512) }),
    { answers: { check: 1, repair: 0 } },
  ),
  ...field('size', 24, 'offset-too-large', 'u64', [2n ** 63n]),
  qcow2('a size of part of a sector', patch({ at: 24, u64: BigInt(VIRTUAL_SIZE - 100) }), {
    answers: { check: 0, repair: 0, replay: 'image-misfit' },
  }),
  qcow2('a refcount at its maximum', patch({ at: REFCOUNT_BLOCK + 8, u64: 0x0001_ffff_0000_0000n }), {
    answers: REPAIRED,
  }),
];

const QED: readonly HostileClass[] = [
  qedBacking('/etc/passwd', 'backing-not-allowed'),
  qedBacking('../secret', 'backing-not-allowed'),
  qedBacking('nbd:localhost:10809', 'backing-protocol'),
  qedBacking('fifo', 'not-a-regular-file'),
  ...[4, 63].map((length): HostileClass => {
    return {
      name: `header cut after ${String(length)} bytes`,
      format: 'qed',
      spoil: cut(length),
      refused: 'qed-truncated',
    };
  }),
  ...qedField('cluster size', 4, 'bad-cluster-size', 32, [0, 2048, 65_537, 2 ** 27, 2 ** 31]),
  ...qedField('table size', 8, 'bad-table-size', 32, [0, 3, 32, U32_MAX]),
  ...qedField('header size', 12, 'bad-header-size', 32, [0, 0x1_0000, U32_MAX]),
  ...qedField('features', 16, 'unknown-feature', 64, [8, 1n << 63n]),
  ...qedField('L1 offset', 40, 'bad-l1-offset', 64, [0, 65_537, 1n << 40n, 1n << 63n]),
  ...qedField('size', 48, 'bad-image-size', 64, [1000, 1n << 60n, 1n << 63n]),
  {
    name: 'a backing name of 1,024 bytes',
    format: 'qed',
    spoil: (good) => {
      const bytes = good.slice();
      const view = new DataView(bytes.buffer);
      view.setUint32(16, 1, true);
      view.setUint32(56, 64, true);
      view.setUint32(60, 1024, true);
      return bytes;
    },
    refused: 'qed-bad-backing-name',
    offset: 60,
  },
  {
    name: 'an L1 entry to the L1 table itself',
    format: 'qed',
    spoil: (good) => {
      const bytes = good.slice();
      new DataView(bytes.buffer).setBigUint64(CLUSTER, BigInt(CLUSTER), true);
      return bytes;
    },
    answers: LEFT,
  },
];

/** A name right behind the header's fields, of a raw file. */
function qedBacking(name: string, behind: string): HostileClass {
  const spoil = (good: Bytes): Bytes => {
    const bytes = good.slice();
    const view = new DataView(bytes.buffer);
    view.setUint32(16, 1 | 4, true);
    view.setUint32(56, 64, true);
    view.setUint32(60, name.length, true);
    bytes.set(Buffer.from(name), 64);
    return bytes;
  };
  return { name: `the backing file ${name}`, format: 'qed', spoil, behind };
}

export const HOSTILE_CLASSES: readonly HostileClass[] = [...QCOW2, ...QED];
