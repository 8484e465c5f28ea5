/** `amend`: the operations and bytes of `qemu-img amend`, and what is refused where QEMU does harm. */

import { readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

import type { ImageAmendment } from '../../src/format/disk-image.ts';
import { reasonToSkip, type SystemTool } from '../format/system-tools.ts';
import { TwinImages } from './twin-images.ts';

const skip = reasonToSkip('qemu-img', 'qemu-io', 'strace');

type Line = readonly [SystemTool, ...(readonly string[])];

const CREATE = ['qemu-img', 'create', '-q', '-f', 'qcow2'] as const;

/** An image as `options` and `lines` make it. */
function madeBy(options: string, lines: readonly Line[] = []): TwinImages {
  const twins = new TwinImages();
  twins.run('qemu-img', 'create', '-q', '-f', 'raw', 'base', '4M');
  twins.run(...CREATE, ...(options === '' ? [] : ['-o', options]), 'disk', '8M');
  for (const [tool, ...args] of lines) twins.run(tool, ...args);
  return twins;
}

function asked({ compat, refcounts }: ImageAmendment): string {
  return [
    ...(compat === undefined ? [] : [`compat=${compat}`]),
    ...(refcounts === undefined ? [] : [`lazy_refcounts=${refcounts === 'lazy' ? 'on' : 'off'}`]),
  ].join(',');
}

const io = (...commands: readonly string[]): Line => [
  'qemu-io',
  ...commands.flatMap((command) => ['-c', command]),
  'disk',
];
const SNAPSHOT: Line = ['qemu-img', 'snapshot', '-c', 'one', 'disk'];
const BITMAP: Line = ['qemu-img', 'bitmap', '--add', 'disk', 'changed'];
const ZEROES = io('write 0 64k', 'write -z 64k 128k', 'write 1M 64k', 'write -z 1M 64k', 'write 7M 1M');

interface Case {
  readonly what: string;
  readonly options: string;
  readonly lines?: readonly Line[];
  readonly change: ImageAmendment;
}

const CASES: readonly Case[] = [
  { what: 'lazy', options: '', lines: [ZEROES], change: { refcounts: 'lazy' } },
  { what: 'lazy already', options: 'lazy_refcounts=on', change: { refcounts: 'lazy' } },
  { what: 'eager', options: 'lazy_refcounts=on', lines: [ZEROES], change: { refcounts: 'eager' } },
  { what: 'version 3', options: 'compat=0.10', change: { compat: '1.1' } },
  { what: 'version 3 and lazy', options: 'compat=0.10', change: { compat: '1.1', refcounts: 'lazy' } },
  {
    what: 'version 3, with a snapshot',
    options: 'compat=0.10',
    lines: [SNAPSHOT],
    change: { compat: '1.1' },
  },
  { what: 'lazy, with a bitmap', options: '', lines: [BITMAP, ZEROES], change: { refcounts: 'lazy' } },
  { what: 'lazy, extended L2', options: 'extended_l2=on', lines: [ZEROES], change: { refcounts: 'lazy' } },
  { what: 'lazy, preallocated', options: 'preallocation=metadata', change: { refcounts: 'lazy' } },
  { what: 'lazy, 512-byte clusters', options: 'cluster_size=512', change: { refcounts: 'lazy' } },
  { what: 'version 2', options: '', change: { compat: '0.10' } },
  { what: 'version 2, of a lazy image', options: 'lazy_refcounts=on', change: { compat: '0.10' } },
  { what: 'version 2, zero clusters', options: '', lines: [ZEROES], change: { compat: '0.10' } },
  {
    what: 'version 2, zero clusters in several tables',
    options: 'cluster_size=4k',
    lines: [ZEROES],
    change: { compat: '0.10', refcounts: 'eager' },
  },
];

describe.skipIf(skip !== undefined)('an image is amended as by qemu-img', () => {
  it.each(CASES)('$what', async ({ what, options, lines, change }) => {
    const twins = madeBy(options, lines);
    twins.copy();
    const theirs = await twins.trace('amend', '-o', asked(change), twins.theirs);
    const ours = await twins.withOurs('writeback', async ({ image }) => image.amend?.(change));
    twins.expectSame(ours, theirs, what);
  });

  it('version 2 over a backing file: the same bytes, with refcounts before the tables', async () => {
    const twins = madeBy('backing_file=base,backing_fmt=raw', [ZEROES]);
    twins.copy();
    await twins.trace('amend', '-o', 'compat=0.10', twins.theirs);
    const ours = await twins.withOurs('writeback', async ({ image }) => image.amend?.({ compat: '0.10' }));
    twins.expectSameBytes('version 2 over a backing file');
    const written = ours.flatMap((record) => (record.op === 'write' ? record.purpose : []));
    expect(written.filter((purpose) => purpose !== 'header')).toEqual(['refcount-block', 'l2-table']);
  });

  it('a header names another backing file when the tables for it are durable; QEMU writes it first', async () => {
    const twins = madeBy('backing_file=base,backing_fmt=raw');
    twins.copy();
    const ours = await twins.withOurs('writeback', async ({ image }) => {
      await image.write(0, Buffer.alloc(4096, 7));
      await image.changeBacking?.(undefined);
    });
    const steps = ours.map((record) => (record.op === 'sync' ? 'sync' : record.purpose));
    const table = steps.lastIndexOf('l2-table');
    const header = steps.lastIndexOf('header');
    expect(table).toBeGreaterThan(0);
    expect(steps.slice(table, header)).toContain('sync');
  });

  const lossy = [
    ['snapshots', '', [SNAPSHOT]],
    ['bitmaps', '', [BITMAP]],
    ['zstd', 'compression_type=zstd', []],
    ['a data file', 'data_file=disk.data', []],
    ['extended L2 entries', 'extended_l2=on', []],
    ['refcounts of 8 bits', 'refcount_bits=8', []],
  ] as const;
  it.each(lossy)('version 2 has no place for %s', async (_, options, lines) => {
    const twins = madeBy(options, lines);
    twins.copy();
    await twins.withOurs('writeback', async ({ image }) => {
      await expect(image.amend?.({ compat: '0.10' })).rejects.toMatchObject({ code: 'amend-needs-v3' });
    });
    expect(twins.run('qemu-img', 'check', twins.ours)).toContain('No errors');
    expect(readFileSync(twins.ours)[7]).toBe(3);
  });
});
