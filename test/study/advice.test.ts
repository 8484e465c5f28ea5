import { describe, expect, test } from 'vitest';

import { geometryOf } from '../../src/format/qcow2/on-disk/geometry.ts';
import { cacheGeometry } from '../../src/format/qcow2/metadata/cache-geometry.ts';

import { adviceOf } from '../../src/study/advice.ts';
import { adviceText, headlineOf } from '../../src/study/advice-text.ts';
import { pasteLines } from '../../src/study/paste-lines.ts';
import { l2CacheFor, surprisesOf } from '../../src/study/surprises.ts';
import { studyTable, type StudyTable } from '../../src/study/table.ts';
import { smallResult, type SmallCell } from './small-study.ts';

const MODEL = 'model:nvme-plp';
const LAZY: SmallCell = { refcounts: 'lazy', device: MODEL };
const EAGER: SmallCell = { refcounts: 'eager', device: MODEL };
const RAW: SmallCell = { format: 'raw', refcounts: null, clusterSize: null, device: MODEL };

function tableOf(...cells: readonly SmallCell[]): StudyTable {
  return studyTable(smallResult(cells));
}

describe('the setting to take', () => {
  test('is the plainest of those within 5 % of the fastest', () => {
    const table = tableOf(
      { ...EAGER, times: [2000] },
      { ...LAZY, times: [1040] },
      { ...LAZY, shape: { preallocation: 'metadata' }, times: [1000] },
      { ...RAW, times: [500] },
    );
    const [advice] = adviceOf(table);
    expect(advice?.taken?.name).toBe('qcow2, lazy refcounts');
    expect(advice?.raw?.name).toBe('raw');
    expect(advice?.ranked.map(({ shortName }) => shortName)).toEqual([
      'raw',
      'qcow2 lazy metadata',
      'qcow2 lazy',
      'qcow2 eager',
    ]);
    expect(headlineOf('w', advice ?? never())).toBe(
      'Workload w, cache=none: take qcow2, lazy refcounts (0 syncs and 40,960 bytes per write); ' +
        'a request takes 48 % less modelled time than with the defaults of qcow2 (0 syncs and 40,960 bytes per write).',
    );
  });

  test('is that of the defaults if it saves no more than 5 %', () => {
    const table = tableOf({ ...EAGER, times: [1040] }, { ...LAZY, times: [1000] });
    const [advice] = adviceOf(table);
    expect(advice?.taken?.name).toBe('qcow2, eager refcounts');
    expect(headlineOf('w', advice ?? never())).toMatch(
      /take the defaults .*; the fastest, qcow2, lazy refcounts, takes 4 % less modelled time/,
    );
  });

  test('is compared with raw in both directions', () => {
    const rawLine = (ns: number): string | undefined => {
      const table = tableOf({ ...EAGER, times: [1000] }, { ...RAW, times: [ns] });
      const given = { workload: 'w', advice: adviceOf(table), table, surprises: [], lines: [], sure: [] };
      const paint = { bold: String, dim: String, yellow: String };
      return adviceText(given, { paint, width: 100 })
        .split('\n')
        .find((line) => line.startsWith('Raw  '));
    };
    expect(rawLine(800)).toMatch(/Raw takes 20 % less modelled time; it has no snapshots/);
    expect(rawLine(1020)).toMatch(/neither faster nor slower by more than 5 %/);
    expect(rawLine(2000)).toMatch(/Raw is slower: it takes 2.00× the modelled time/);
  });

  test('depends on all devices alike', () => {
    const on = (device: string, cell: SmallCell, ns: number): SmallCell => ({ ...cell, device, times: [ns] });
    const table = tableOf(
      on('model:a', EAGER, 100),
      on('model:b', EAGER, 1_000_000),
      on('model:a', LAZY, 50),
      on('model:b', LAZY, 1_500_000),
    );
    const [advice] = adviceOf(table);
    // 2 × on the one and 1.5 × on the other: lazy is faster over both.
    expect(advice?.ranked[0]?.name).toBe('qcow2, lazy refcounts');
    expect(advice?.ranked[0]?.score).toBeCloseTo(Math.sqrt(1.5));
  });
});

function never(): never {
  throw new Error('no advice');
}

describe('surprises', () => {
  test('an L2 cache is named only for tables above the default', () => {
    const [row] = tableOf(EAGER).rows;
    if (row === undefined) throw new Error('no row');
    expect(l2CacheFor(row, 256 * 2 ** 30)).toBeUndefined();
    expect(l2CacheFor(row, 512 * 2 ** 30)).toBe(64 * 2 ** 20);
    expect(l2CacheFor(row, 512 * 2 ** 30 + 512)).toBe(64 * 2 ** 20 + 65_536);
    const said = surprisesOf(tableOf(EAGER), { cache: 'none', virtualSize: 512 * 2 ** 30 });
    expect(said.map(({ about }) => about)).toContain('L2 cache');
  });

  test('are reads of what was not written, if raw has them and qcow2 has not', () => {
    const surprise = (readBytes: number) =>
      surprisesOf(tableOf({ ...RAW, readBytes: 2 ** 20 }, { ...EAGER, readBytes }), {
        cache: 'none',
        virtualSize: 2 ** 30,
      }).find(({ about }) => about === 'Unwritten reads');
    expect(surprise(2 ** 18)?.text).toMatch(
      /^Of 1 MiB that the guest reads, 768 KiB were not written before/,
    );
    expect(surprise(2 ** 20 - 4096)).toBeUndefined();
  });

  test('say nothing of other cache modes', () => {
    expect(surprisesOf(tableOf(EAGER), { cache: 'unsafe', virtualSize: 512 * 2 ** 30 })).toEqual([]);
  });
});

describe('lines to paste', () => {
  const [row] = tableOf({ ...LAZY, cache: 'writethrough', shape: { preallocation: 'metadata' } }).rows;

  test('have what differs from the defaults, and the cache mode', () => {
    const lines = pasteLines(row?.cell ?? never(), {
      path: 'd.qcow2',
      absolutePath: '/images/d.qcow2',
      virtualSize: 2 ** 30,
      l2CacheSize: 4096,
    });
    const [create, qemu, libvirt, proxmox] = lines.map(({ text }) => text);
    expect(create).toBe(
      'qemu-img create -f qcow2 -o lazy_refcounts=on,preallocation=metadata d.qcow2 1073741824',
    );
    expect(qemu).toContain('cache.direct=off,cache.no-flush=off');
    expect(qemu).toContain('l2-cache-size=4096');
    expect(qemu).toContain('write-cache=off');
    expect(libvirt).toContain("cache='writethrough'");
    expect(libvirt).toContain("<source file='/images/d.qcow2'/>");
    expect(proxmox).toContain('--virtio0 STORAGE:1,format=qcow2,cache=writethrough,discard=on');
    expect(proxmox).toContain('does not set lazy refcounts');
    expect(proxmox).toContain('no option for the size of the L2 cache');
  });

  test('give libvirt, which has one size for both caches, what the refcount cache takes as well', () => {
    const virtualSize = 512 * 2 ** 30;
    for (const shape of [undefined, { extendedL2: true }]) {
      const [large] = tableOf({ ...EAGER, ...(shape === undefined ? {} : { shape }) }).rows;
      if (large === undefined) throw new Error('no row');
      const l2CacheSize = l2CacheFor(large, virtualSize);
      const lines = pasteLines(large.cell, { path: 'd', absolutePath: '/d', virtualSize, l2CacheSize });
      const cacheSize = Number(/bytes'>(\d+)</.exec(lines[2]?.text ?? '')?.[1]);
      const geometry = geometryOf(65_536, shape);
      const whole = virtualSize / geometry.l2Coverage;
      const caches = cacheGeometry(geometry, virtualSize, { cacheSize });
      expect(caches).toMatchObject({ l2Slots: whole, l2SliceSize: 65_536, refcountSlots: 4 });
      const less = cacheGeometry(geometry, virtualSize, { cacheSize: cacheSize - 65_536 });
      expect(less.l2Slots * less.l2SliceSize).toBeLessThan(whole * 65_536);
    }
  });
});
