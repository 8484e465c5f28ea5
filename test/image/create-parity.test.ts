/**
 * `create`, as a user calls it, makes the same bytes as `qemu-img create` with the same options, or
 * both refuse, and ours names the option: a covering array over everything that can be chosen, for
 * each format.
 */

import { mkdirSync, rmSync, existsSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { EXIT } from '../../src/cli/terminal/exit-code.ts';
import { formatSize } from '../../src/core/size.ts';
import type { Format } from '../../src/format/disk-image.ts';
import { REFCOUNT_MODES } from '../../src/format/image-options.ts';
import {
  COMPAT_LEVELS,
  COMPRESSION_TYPES,
  DATA_FILES,
  PREALLOCATIONS,
  REFCOUNT_BITS,
} from '../../src/format/image-shape.ts';
import { firstDifference } from '../../src/peer/whole-file.ts';
import { callCli } from '../cli/call-cli.ts';
import { coveringArray, type Row } from '../parity/covering-array.ts';
import { reasonToSkip, runTool, tryTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const TIB = 1024 ** 4;
const SEED = 11;
const skip = reasonToSkip('qemu-img');

const QCOW2 = {
  compat: COMPAT_LEVELS,
  clusterSize: [512, 4 * KIB, 16 * KIB, 64 * KIB, 2 * MIB],
  refcountBits: REFCOUNT_BITS,
  extendedL2: ['off', 'on'],
  refcounts: REFCOUNT_MODES,
  compressionType: COMPRESSION_TYPES,
  dataFile: DATA_FILES,
  preallocation: PREALLOCATIONS,
  backing: ['none', 'raw', 'qcow2', 'qed'],
  virtualSize: [0, 512, 5 * MIB + 512, 9 * MIB, 16 * TIB],
} as const;
const QED = {
  // Beyond, QEMU's limit of the disk's size overflows (8 MiB: "less than 0 bytes"), and ours is the
  // memory of tables.
  clusterSize: [4 * KIB, 64 * KIB, MIB, 2 * MIB],
  backing: ['none', 'raw', 'qcow2', 'qed'],
  virtualSize: [0, 512, 5 * MIB + 512, 9 * MIB, 16 * TIB],
} as const;
const RAW = {
  preallocation: PREALLOCATIONS,
  virtualSize: [0, 512, 5 * MIB + 512, 4096 * MIB + 512],
} as const;

/** Everything that any of the formats lets one choose. */
type Choice = Partial<Row<typeof QCOW2>> & { readonly virtualSize: number };

const directory = testDirectory();
for (const name of ['ours', 'theirs']) mkdirSync(join(directory, name));

const cases: readonly (readonly [Format, readonly Choice[]])[] = [
  [
    'qcow2',
    coveringArray(QCOW2, {
      seed: SEED,
      // A disk of terabytes with everything in place ends at no time, with QEMU as here.
      allowed: ({ preallocation = 'off', virtualSize = 0 }) => virtualSize < TIB || preallocation === 'off',
    }),
  ],
  ['qed', coveringArray(QED, { seed: SEED })],
  [
    'raw',
    coveringArray(RAW, {
      seed: SEED,
      allowed: ({ preallocation, virtualSize = 0 }) => virtualSize < TIB / 1024 || preallocation !== 'full',
    }),
  ],
];

describe.skipIf(skip !== undefined)(`new images are those of qemu-img, seed ${String(SEED)}`, () => {
  test.each(cases)(
    '%s',
    async (format, choices) => {
      makeBackingFiles();
      let made = 0;
      for (const [index, choice] of choices.entries()) {
        const label = `${String(index)}: ${describeChoice(choice)}`;
        const name = `${format}-${String(index)}`;
        const theirs = refusalOfQemu(format, name, choice);
        const ours = await refusalOfOurs(format, name, choice);
        expect({ refused: ours !== undefined, ours }, `${label}: QEMU says ${theirs ?? 'yes'}`).toMatchObject(
          {
            refused: theirs !== undefined,
          },
        );
        for (const file of theirs === undefined ? [name, `${name}.data`] : []) {
          const [left, right] = [join(directory, 'ours', file), join(directory, 'theirs', file)];
          expect(existsSync(left), label).toBe(existsSync(right));
          if (existsSync(left)) {
            expect(await firstDifference(left, right), `${label}: ${file}`).toBeUndefined();
          }
        }
        if (theirs === undefined) made++;
        for (const side of ['ours', 'theirs']) {
          for (const file of [name, `${name}.data`]) rmSync(join(directory, side, file), { force: true });
        }
      }
      expect(made).toBeGreaterThan(choices.length / 4);
    },
    120_000,
  );
});

function makeBackingFiles(): void {
  for (const side of ['ours', 'theirs']) {
    for (const format of ['raw', 'qcow2', 'qed']) {
      const cwd = join(directory, side);
      runTool('qemu-img', ['create', '-q', '-f', format, `base.${format}`, '6M'], cwd);
    }
  }
}

/** What qemu-img says where it refuses; `undefined` if it made the image. */
function refusalOfQemu(format: Format, name: string, choice: Choice): string | undefined {
  const { backing = 'none', dataFile = 'none' } = choice;
  const settings = Object.entries({
    compat: choice.compat,
    cluster_size: choice.clusterSize,
    refcount_bits: choice.refcountBits,
    extended_l2: choice.extendedL2,
    lazy_refcounts: choice.refcounts && (choice.refcounts === 'lazy' ? 'on' : 'off'),
    compression_type: choice.compressionType,
    preallocation: choice.preallocation,
    data_file: dataFile === 'none' ? undefined : `${name}.data`,
    data_file_raw: dataFile === 'raw' ? 'on' : undefined,
  }).flatMap(([key, value]) => (value === undefined ? [] : ['-o', `${key}=${String(value)}`]));
  const behind = backing === 'none' ? [] : ['-b', `base.${backing}`, '-F', backing];
  const args = ['create', '-q', '-f', format, ...settings, ...behind, name, String(choice.virtualSize)];
  const { status, stderr } = tryTool('qemu-img', args, join(directory, 'theirs'));
  return status === 0 ? undefined : stderr.trim();
}

/** What our command says where it refuses; `undefined` if it made the image. */
async function refusalOfOurs(format: Format, name: string, choice: Choice): Promise<string | undefined> {
  const { backing = 'none', dataFile = 'none', extendedL2, virtualSize } = choice;
  const options = Object.entries({
    'cluster-size': choice.clusterSize,
    compat: choice.compat,
    'refcount-bits': choice.refcountBits,
    refcounts: choice.refcounts,
    'compression-type': choice.compressionType,
    preallocation: choice.preallocation,
    'data-file': dataFile === 'none' ? undefined : dataFile,
    backing: backing === 'none' ? undefined : `base.${backing}`,
    'backing-format': backing === 'none' ? undefined : backing,
  }).flatMap(([option, value]) => (value === undefined ? [] : [`--${option}`, String(value)]));
  if (extendedL2 === 'on') options.push('--extended-l2');
  const image = join(directory, 'ours', name);
  const words = ['create', image, String(virtualSize), '--format', format, ...options];
  const { code, stderr } = await callCli(directory, ...words);
  if (code === EXIT.good) return undefined;
  const text = stderr.trim();
  // The user is to change an option: the message begins with its name.
  expect(text).toMatch(/^qcow2-bench: error: (?:--[a-z0-9-]+|SIZE): /);
  expect(code, text).toBe(EXIT.usage);
  return text;
}

function describeChoice({ virtualSize, clusterSize, ...rest }: Choice): string {
  const sizes = [formatSize(virtualSize), ...(clusterSize === undefined ? [] : [formatSize(clusterSize)])];
  return [...sizes, ...Object.entries(rest).map(([key, value]) => `${key} ${String(value)}`)].join(', ');
}
