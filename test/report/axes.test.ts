/** Whatever varies in a result: the answer compares it, and every table names it and has all rows. */

import { expect, test } from 'vitest';

import { answerOf } from '../../src/report/answer.ts';
import { markdownTables } from '../../src/report/markdown.ts';
import { reportCells } from '../../src/report/report-cells.ts';
import { terminalSummary } from '../../src/report/terminal.ts';
import { COORDINATES, type CoordinateName } from '../../src/result/coordinates.ts';
import type { Cell, CellRecord, ResultRecord } from '../../src/result/schema.ts';
import { ENVIRONMENT, LOADS, syntheticCell, syntheticResult } from './synthetic-result.ts';

const WORKLOAD = 'stride';

/** Two cells that differ in one coordinate, and the words for its values; of each part of an object. */
const AXES = {
  engine: [],
  workload: [],
  format: [[{ format: 'qed', refcounts: null }, {}, 'QED', 'qcow2 lazy']],
  refcounts: [],
  cache: [[{ cache: 'none' }, { cache: 'unsafe' }, 'cache=none', 'cache=unsafe']],
  clusterSize: [[{ clusterSize: 4096 }, {}, '4KiB', '64KiB']],
  queueDepth: [[{ queueDepth: 32 }, {}, 'depth 32', 'depth 1']],
  overlap: [[{ overlap: true }, {}, 'overlap', 'no overlap']],
  device: [[{ device: 'memory' }, {}, 'memory', 'file']],
  hostFs: [[{ hostFs: 'btrfs' }, {}, 'on btrfs', 'on the file system of the directory']],
  backing: [[{ backing: 'raw' }, {}, 'backing raw', 'no backing file']],
  backingDepth: [
    [{ backing: 'raw', backingDepth: 4 }, { backing: 'raw' }, 'backing raw · backing depth 4', 'backing raw'],
  ],
  payload: [[{ payload: 'zero' }, {}, 'payload zero', 'payload pattern']],
  flushPolicy: [[{ flushPolicy: 'every=8' }, {}, 'flush policy every=8', 'flush policy of the trace']],
  remap: [[{ remap: 'scale' }, {}, 'remap scale', 'remap none']],
  fill: [[{ fill: 'reads' }, {}, 'reads filled', 'reads not filled']],
  maxTransfer: [[{ maxTransfer: 65_536 }, {}, 'max transfer 64KiB', 'max transfer 32MiB']],
  timing: [[{ timing: 'recorded' }, {}, 'timing recorded', 'timing asap']],
  shape: [
    [{ shape: { compat: '0.10' } }, {}, 'compat 0.10', 'compat 1.1'],
    [{ shape: { refcountBits: 1 } }, {}, '1-bit refcounts', '16-bit refcounts'],
    [{ shape: { extendedL2: true } }, {}, 'extended L2', 'standard L2'],
    [{ shape: { compressionType: 'zstd' } }, {}, 'compression zstd', 'compression zlib'],
    [{ shape: { preallocation: 'falloc' } }, {}, 'preallocation falloc', 'preallocation off'],
    [{ shape: { dataFile: 'raw' } }, {}, 'raw data file', 'no data file'],
  ],
  caches: [
    [{ caches: { cacheSize: 65_536 } }, {}, 'cache-size 64KiB', 'default cache-size'],
    [{ caches: { l2CacheSize: 65_536 } }, {}, 'l2-cache-size 64KiB', 'default l2-cache-size'],
    [
      { caches: { refcountCacheSize: 65_536 } },
      {},
      'refcount-cache-size 64KiB',
      'default refcount-cache-size',
    ],
    [{ caches: { l2CacheEntrySize: 4096 } }, {}, 'l2-cache-entry-size 4KiB', 'default l2-cache-entry-size'],
  ],
  discard: [[{ discard: 'ignore' }, {}, 'discard ignore', 'discard unmap']],
  discardNoUnref: [[{ discardNoUnref: true }, {}, 'discard-no-unref', 'no discard-no-unref']],
  policy: [[{ policy: 'strict' }, {}, 'policy strict', 'policy qemu']],
  commit: [
    [
      { format: 'btree', refcounts: null, commit: 'one-sync' },
      { format: 'btree', refcounts: null },
      'commit one-sync',
      'commit two-sync',
    ],
  ],
  like: [[{ like: 'qemu-10.0' }, {}, 'like qemu-10.0', 'like qemu-7.2']],
  qemuBuild: [[{ qemuBuild: '10.0.2' }, { qemuBuild: '7.2.22' }, 'QEMU 10.0.2', 'QEMU 7.2.22']],
  image: [[{ image: '/srv/a.qcow2' }, {}, 'image a.qcow2', 'a new image']],
} satisfies Record<CoordinateName, readonly (readonly [Partial<Cell>, Partial<Cell>, string, string])[]>;

const CASES = Object.entries(AXES).flatMap(([name, cases]) =>
  cases.map(([one, other, ...words]) => ({ name: name as CoordinateName, one, other, words })),
);

function record(change: Partial<Cell>, sizes = 1): CellRecord {
  const load = LOADS.find(({ name }) => name === WORKLOAD);
  if (load === undefined) throw new Error(`no load ${WORKLOAD}`);
  const made = syntheticCell(
    { ...load, bytes: load.bytes * sizes },
    { format: 'qcow2', refcounts: 'lazy', cache: 'writeback' },
  );
  return { ...made, cell: { ...made.cell, ...change } };
}

function resultOf(...cells: readonly CellRecord[]): ResultRecord {
  return { ...syntheticResult(), environment: ENVIRONMENT, cells };
}

test.each(CASES)('cells that differ in $name ($words.0) are compared', ({ name, one, other, words }) => {
  const answer = answerOf(reportCells(resultOf(record(one), record(other, 2))));
  expect(answer.isAnswer).toBe(true);
  if (!COORDINATES[name].affectsCounts) return;
  for (const word of words) expect(answer.headline).toContain(`bytes with ${word}`);
  expect(answer.reference.map((each) => each.name)).toEqual(words);
});

test.each(CASES)('cells that differ in $name ($words.0) are all in the tables', ({ one, other }) => {
  const result = resultOf(record(one), record(other, 2));
  const caches = [...new Set(result.cells.map(({ cell }) => cell.cache))];
  const markdown = caches.map((cache) => markdownTables(result, { cache })).join('\n');
  expect(markdown.match(/ syncs, /g)).toHaveLength(2);
  const rows = terminalSummary(result).match(/^(?:stride)? +(?:qcow2 lazy|QED|B-tree) .*$/gm);
  expect(rows).toHaveLength(2);
  const headings = [...markdown.split('\n'), ...terminalSummary(result).split('\n')].filter((line) =>
    line.includes('cache='),
  );
  expect(new Set(headings).size).toBe(headings.length);
});

test('several axes have a sentence each, and their headline is of the image', () => {
  const cells = [4096, 65_536].flatMap((clusterSize) =>
    (['writethrough', 'none'] as const).map((cache) => record({ clusterSize, cache }, clusterSize / 4096)),
  );
  const { headline, points } = answerOf(reportCells(resultOf(...cells)));
  expect(headline).toMatch(/^By cluster size, .* with 4KiB and .* with 64KiB/);
  expect(points.map(({ about }) => about)).toEqual(['Cache mode']);
});

test('many values are summed up by the cheapest and the dearest', () => {
  const sizes = [9, 10, 11, 12, 13, 14, 15, 16].map((bits) => 2 ** bits);
  const cells = sizes.map((clusterSize) => record({ clusterSize }, clusterSize / 512));
  expect(answerOf(reportCells(resultOf(...cells))).headline).toMatch(
    /bytes with 512B and [\d,]+ bytes with 64KiB \(the extremes of 8 values\)/,
  );
});

test('one cell is answered by its cost, and a run without writes says so', () => {
  const only = record({});
  expect(answerOf(reportCells(resultOf(only))).headline).toBe(
    'With qcow2 lazy and cache=writeback, a guest write costs 0.006 syncs and 4,555 bytes (stride).',
  );
  if (only.counts === null) throw new Error('not counted');
  const guest = { ...only.counts.guest, writes: 0 };
  const reads = answerOf(reportCells(resultOf({ ...only, counts: { ...only.counts, guest } })));
  expect(reads).toMatchObject({ isAnswer: false, headline: 'No guest request wrote anything.' });
});

test('raw is compared with the other formats in every setup', () => {
  const raw = { ...record({ format: 'raw', refcounts: null, clusterSize: null }) };
  const { points } = answerOf(reportCells(resultOf(raw, record({}), record({ clusterSize: 4096 }, 2))));
  const formats = points.find(({ about }) => about === 'Format')?.text;
  expect(formats).toMatch(/with raw and .* with qcow2 lazy/);
});
