/**
 * Images of every kind that `qemu-img` makes, filled by `qemu-io`: we read from them, byte for
 * byte, what `qemu-img convert` makes of them, and find nothing to object to. Pairwise over the
 * kinds; all of them with `npm run images:full`.
 */

import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatSize } from '../../../src/core/size.ts';
import {
  COMPAT_LEVELS,
  COMPRESSION_TYPES,
  DATA_FILES,
  PREALLOCATIONS,
} from '../../../src/format/image-shape.ts';
import { impossibleImage } from '../../../src/format/registry.ts';
import { checkImageFile } from '../../../src/image/check-image.ts';
import { hostImage } from '../../../src/image/host-image.ts';
import { openChain } from '../../../src/image/open-chain.ts';
import { coveringArray, type Row } from '../../parity/covering-array.ts';
import { QemuDirectory } from '../qemu-directory.ts';
import { reasonToSkip } from '../system-tools.ts';

const KIB = 1024;
const SIZE = 5 * 1024 * KIB + 512;
const skip = reasonToSkip('qemu-img', 'qemu-io');

const AXES = {
  compat: COMPAT_LEVELS,
  clusterSize: [512, 4 * KIB, 64 * KIB, 2048 * KIB],
  refcountBits: [1, 8, 16, 64],
  compressionType: COMPRESSION_TYPES,
  extendedL2: ['off', 'on'],
  dataFile: DATA_FILES,
  preallocation: PREALLOCATIONS,
} as const;
type Kind = Row<typeof AXES>;

const isPossible = (kind: Partial<Kind>): boolean => {
  const { clusterSize, extendedL2, ...shape } = kind;
  const isExtended = extendedL2 === 'on';
  return (
    impossibleImage({ format: 'qcow2', clusterSize, shape: { ...shape, extendedL2: isExtended } }) ===
    undefined
  );
};

/** Every kind that qemu-img makes. */
function allKinds(): readonly Kind[] {
  let kinds: readonly Partial<Kind>[] = [{}];
  for (const [axis, values] of Object.entries(AXES)) {
    kinds = kinds.flatMap((kind) => values.map((value) => ({ ...kind, [axis]: value })));
  }
  return kinds.filter(isPossible) as readonly Kind[];
}

const KINDS =
  process.env['IMAGES_FULL'] === undefined
    ? coveringArray(AXES, { seed: 3, allowed: isPossible })
    : allKinds();

describe.skipIf(skip !== undefined)('an image that QEMU made and filled reads as QEMU reads it', () => {
  const qemu = new QemuDirectory();

  it.each(KINDS.map((kind) => [nameOf(kind), kind] as const))('%s', async (_, kind) => {
    qemu.img('create', '-q', '-f', 'qcow2', '-o', settingsOf(kind), 'image', String(SIZE));
    qemu.io('qcow2', 'image', ...commandsFor(kind));
    qemu.img('convert', '-f', 'qcow2', '-O', 'raw', 'image', 'expected');
    const { image } = await openChain({ path: join(qemu.path, 'image') });
    const bytes = new Uint8Array(SIZE);
    await image.read(0, bytes);
    // In pieces that begin and end anywhere too.
    const pieces = new Uint8Array(SIZE);
    for (let at = 0; at < SIZE; at += 40_448) {
      await image.read(at, pieces.subarray(at, Math.min(SIZE, at + 40_448)));
    }
    await image.abandon();
    const expected = qemu.get('expected');
    expect(Buffer.compare(bytes, expected)).toBe(0);
    expect(Buffer.compare(pieces, expected)).toBe(0);
    const { report } = await checkImageFile(hostImage(join(qemu.path, 'image')));
    expect({ ...report }).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
  });
});

function settingsOf(kind: Kind): string {
  const settings = [
    `compat=${kind.compat}`,
    `cluster_size=${String(kind.clusterSize)}`,
    `refcount_bits=${String(kind.refcountBits)}`,
    `compression_type=${kind.compressionType}`,
    `extended_l2=${kind.extendedL2}`,
    `preallocation=${kind.preallocation}`,
  ];
  if (kind.dataFile !== 'none') {
    settings.push('data_file=image.data', `data_file_raw=${kind.dataFile === 'raw' ? 'on' : 'off'}`);
  }
  return settings.join(',');
}

/**
 * Writes of all kinds that the image takes; compressed ones only into clusters that nothing was
 * written to.
 */
function commandsFor({ clusterSize, dataFile, preallocation }: Kind): readonly string[] {
  const compressible = dataFile === 'none' && preallocation === 'off';
  const cluster = Math.max(clusterSize, 4 * KIB);
  const compressed = [0, 1].map(
    (index) => `write -c -P ${String(index + 11)} ${String(index * cluster)} ${String(clusterSize)}`,
  );
  return [
    ...(compressible ? compressed : []),
    `write -P 1 ${String(SIZE - 1536)} 1536`,
    `write -P 2 3M 200k`,
    `write -P 3 ${String(3 * 1024 * KIB + 512)} 1024`,
    'write -z 3100k 16k',
    'discard 3136k 64k',
    `write -P 4 ${String(cluster + 512)} 512`,
    'write -z -u 4500k 100k',
    'write -P 5 4510k 3k',
    'write -P 6 2M 96k',
  ];
}

function nameOf(kind: Kind): string {
  const { clusterSize, compat, refcountBits, compressionType, extendedL2, dataFile, preallocation } = kind;
  return [
    `compat ${compat}`,
    formatSize(clusterSize),
    `${String(refcountBits)} bits`,
    compressionType,
    `extended L2 ${extendedL2}`,
    `data file ${dataFile}`,
    `preallocation ${preallocation}`,
  ].join(', ');
}
