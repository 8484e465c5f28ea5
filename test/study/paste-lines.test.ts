/** The lines that `advise` prints are taken by qemu-img and QEMU. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { probeCapabilities } from '../../src/device/capabilities.ts';
import { CACHE_MODES } from '../../src/result/vocabulary.ts';
import { blockdevValue, createWords } from '../../src/study/paste-lines.ts';
import { studyTable, type StudyRow } from '../../src/study/table.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { smallResult, type SmallCell } from './small-study.ts';

const directory = testDirectory();
const isDirect = probeCapabilities(directory).direct.ok;
const SHAPES: readonly SmallCell[] = [
  { format: 'raw', refcounts: null, clusterSize: null },
  { format: 'raw', refcounts: null, clusterSize: null, shape: { preallocation: 'falloc' } },
  { refcounts: 'eager' },
  { refcounts: 'lazy', shape: { preallocation: 'metadata' } },
  { refcounts: 'lazy', clusterSize: 262_144, shape: { extendedL2: true, preallocation: 'falloc' } },
];
const rows = studyTable(
  smallResult(SHAPES.flatMap((shape) => CACHE_MODES.map((cache) => ({ ...shape, cache })))),
).rows.map((row, index) => ({
  row,
  name: [...createWords(row.cell, { path: 'X', virtualSize: 1 }), row.cell.cache].join(' '),
  index,
}));

const skipped = reasonToSkip('qemu-img');
const noDaemon = reasonToSkip('qemu-storage-daemon');

describe.skipIf(skipped !== undefined)(`qemu-img (${skipped ?? 'found'})`, () => {
  test.each(rows)('makes the image, and QEMU opens it: $name', ({ row, index }) => {
    const path = join(directory, `i${String(index)},x`);
    const made = spawnSync('qemu-img', [...createWords(row.cell, { path, virtualSize: 64 * 2 ** 20 })]);
    expect(made.stderr.toString()).toBe('');
    expect(made.status).toBe(0);
    expectShape(row, path);
    if (noDaemon !== undefined || (!isDirect && ['none', 'directsync'].includes(row.cell.cache))) return;
    const commands = ['qmp_capabilities', 'quit'].map((execute) => JSON.stringify({ execute })).join('\n');
    const words = [
      ...['--blockdev', blockdevValue(row.cell, { path, l2CacheSize: 1024 * 1024 })],
      ...['--chardev', 'stdio,id=c', '--monitor', 'chardev=c'],
    ];
    const served = spawnSync('qemu-storage-daemon', words, { input: `${commands}\n`, timeout: 60_000 });
    expect(served.stderr.toString()).toBe('');
    expect(served.status).toBe(0);
  });
});

function expectShape({ cell }: StudyRow, path: string): void {
  const info = spawnSync('qemu-img', ['info', '--output=json', path]).stdout.toString();
  const {
    format,
    'cluster-size': clusterSize,
    'format-specific': specific,
  } = JSON.parse(info) as {
    readonly format: string;
    readonly 'cluster-size'?: number;
    readonly 'format-specific'?: { readonly data: Readonly<Record<string, unknown>> };
  };
  expect(format).toBe(cell.format);
  if (cell.format !== 'qcow2') return;
  expect(clusterSize).toBe(cell.clusterSize);
  expect(specific?.data['lazy-refcounts']).toBe(cell.refcounts === 'lazy');
  expect(specific?.data['extended-l2']).toBe(cell.shape?.extendedL2 === true);
}
