/** The parts of the page's scripts that need no browser. */

import fc from 'fast-check';
import { expect, test } from 'vitest';

import { csvOf } from '../../src/report/page/csv.ts';
import { hasTerm, matches, parseFilter, toggled, type FilterAxis } from '../../src/report/page/filter.ts';
import { firstDimensions, pivotOf } from '../../src/report/page/pivot.ts';
import { linearScale, logScale } from '../../src/report/page/scale.ts';
import { firstDifference, timelineOf } from '../../src/report/page/timeline.ts';
import { FIRST_VIEW, fragmentOf, viewOf, type View } from '../../src/report/page/view.ts';
import { pageModels } from '../../src/report/page-requests.ts';
import { operationsOfCost } from '../../src/report/request-operations.ts';

const AXES: readonly FilterAxis[] = [
  { name: 'cache', values: ['writethrough', 'writeback', 'none'] },
  { name: 'cluster-size', values: ['4KiB', '64KiB'] },
  { name: 'backing', values: ['backing raw', 'no backing file'] },
];
const CELLS: readonly (readonly (string | undefined)[])[] = [
  ['writethrough', '4KiB', 'backing raw'],
  ['writeback', '64KiB', 'no backing file'],
  ['none', '64KiB', 'no backing file'],
  ['none', undefined, 'no backing file'],
];

function kept(text: string): readonly number[] {
  const filter = parseFilter(text, AXES);
  return [...CELLS.keys()].filter((cell) =>
    matches(filter, AXES, (axis) => CELLS[cell]?.[AXES.indexOf(axis)]),
  );
}

test.each([
  ['', [0, 1, 2, 3]],
  ['cache:none', [2, 3]],
  ['cache:write', [0, 1]],
  ['cache:none cache:writeback', [1, 2, 3]],
  ['cache:none,writeback cluster-size:64KiB', [1, 2]],
  // A whole value, and no part of 64KiB.
  ['cluster-size:4KiB', [0]],
  ['!cluster-size:64KiB', [0, 3]],
  ['"backing raw"', [0]],
  ['backing:"no backing file" !none', [1]],
  ['BACKING:raw', [0]],
  ['nothing-has-this', []],
])('the filter %j keeps the cells %j', (text, cells) => {
  expect(kept(text)).toEqual(cells);
  expect(parseFilter(text, AXES).problems).toEqual([]);
});

test('an unknown axis is named, with those that there are; half a word is none', () => {
  expect(parseFilter('colour:red', AXES).problems).toEqual([
    'No axis colour: here are cache, cluster-size, backing.',
  ]);
  expect(kept('cache:')).toEqual([0, 1, 2, 3]);
});

test('a term that is toggled twice leaves the filter as it was', () => {
  for (const { name, values } of AXES) {
    for (const value of values) {
      const once = toggled('!x "a b"', name, value);
      expect(hasTerm(once, name, value)).toBe(true);
      expect(kept(toggled('', name, value)).length).toBeGreaterThan(0);
      expect(toggled(once, name, value)).toBe('!x "a b"');
    }
  }
});

const text = fc.string({ maxLength: 12 });
const name = fc.stringMatching(/^[a-z-]{1,8}$/);

test('an address shows the view that made it', () => {
  const views: fc.Arbitrary<View> = fc.record({
    filter: text,
    rows: fc.option(name, { nil: undefined }),
    columns: fc.option(fc.oneof(fc.constant(''), name), { nil: undefined }),
    panels: fc.option(fc.oneof(fc.constant(''), name), { nil: undefined }),
    hold: fc.dictionary(name, text, { maxKeys: 3, noNullPrototype: true }),
    show: fc.option(fc.array(name, { maxLength: 3 }), { nil: undefined }),
    as: fc.constantFrom('bars', 'grid'),
    sort: fc.oneof(fc.constant(''), name),
    cell: fc.option(text, { nil: undefined }),
    other: fc.option(text, { nil: undefined }),
    from: fc.option(fc.nat(100_000), { nil: undefined }),
    to: fc.option(fc.nat(100_000), { nil: undefined }),
    clock: fc.constantFrom('counted', 'hdd-7200'),
  });
  fc.assert(
    fc.property(views, (view) => {
      expect(viewOf(`#${fragmentOf(view)}`)).toEqual(view);
    }),
  );
  expect(fragmentOf(FIRST_VIEW)).toBe('');
});

test('an address that is damaged shows what can be shown of it', () => {
  fc.assert(
    fc.property(fc.string(), (fragment) => {
      const view = viewOf(fragment);
      expect(['bars', 'grid']).toContain(view.as);
      expect(view.from === undefined || Number.isSafeInteger(view.from)).toBe(true);
    }),
  );
});

const PLACED = {
  axes: [
    { name: 'workload', title: 'Workload', values: ['a', 'b'] },
    { name: 'variant', title: 'Format', values: ['raw', 'qcow2 lazy'] },
    { name: 'cluster-size', title: 'Cluster size', values: ['4KiB', '64KiB'] },
  ],
  // Of raw, which has no clusters, and qcow2 with each size, for each workload.
  places: [
    [0, 0, 0, 1, 1, 1],
    [0, 1, 1, 0, 1, 1],
    [-1, 0, 1, -1, 0, 1],
  ],
};
const ALL = [0, 1, 2, 3, 4, 5];

test('a slot has one cell: what varies besides is held at the value of the preferred cell, or as chosen', () => {
  const dimensions = { rows: 'variant', columns: '', panels: '' };
  const pivot = pivotOf(PLACED, ALL, dimensions, { hold: { workload: 'b' }, preferred: 2 });
  expect(pivot.held.map(({ axis, value }) => [axis.name, value])).toEqual([
    ['workload', 'b'],
    ['cluster-size', '64KiB'],
  ]);
  expect(pivot.cells).toEqual([3, 5]);
  expect(firstDimensions(PLACED)).toEqual({ rows: 'variant', columns: '', panels: 'cluster-size' });
});

test('a cell without an axis is in each of its columns', () => {
  const pivot = pivotOf(
    PLACED,
    ALL,
    { rows: 'variant', columns: 'cluster-size', panels: 'workload' },
    { hold: {}, preferred: undefined },
  );
  expect(pivot.panels.map((panel) => panel.rows.map(({ cells }) => cells))).toEqual([
    [
      [0, 0],
      [1, 2],
    ],
    [
      [3, 3],
      [4, 5],
    ],
  ]);
  expect(pivot.held).toEqual([]);
});

test('every combination of axes has each cell at most once a slot, and all values held', () => {
  const names = ['', ...PLACED.axes.map((axis) => axis.name)];
  for (const rows of names.slice(1)) {
    for (const columns of names) {
      for (const panels of names) {
        if (columns !== '' && (columns === rows || columns === panels)) continue;
        if (panels === rows) continue;
        const pivot = pivotOf(PLACED, ALL, { rows, columns, panels }, { hold: {}, preferred: 1 });
        const axes = [rows, columns, panels].filter((each) => each !== '').length;
        expect(pivot.held.length).toBeLessThanOrEqual(3 - axes);
        expect(pivot.cells.length).toBeGreaterThan(0);
      }
    }
  }
});

test('a cost is read back as its operations; what is not understood ends it', () => {
  expect(operationsOfCost('write cow+data, write l2-table 4096 B × 3, sync writethrough')).toEqual([
    {
      op: 'write',
      purpose: 'data',
      parts: [
        { purpose: 'cow', bytes: undefined },
        { purpose: 'data', bytes: undefined },
      ],
      count: 1,
    },
    { op: 'write', purpose: 'l2-table', parts: [{ purpose: 'l2-table', bytes: 4096 }], count: 3 },
    { op: 'sync', cause: 'writethrough', count: 1 },
  ]);
  expect(operationsOfCost('')).toEqual([]);
  expect(operationsOfCost('write data, frobnicate data, sync close')).toHaveLength(1);
  expect(operationsOfCost('sync nothing')).toEqual([]);
});

test('operations follow one another without a gap, by count or by the time of a model', () => {
  const costs = [
    'write data, sync writethrough',
    '',
    'zero-range cow, write data, write l2-table 65536 B, sync writethrough',
  ];
  const requests = {
    costs: [0, 1, 2],
    sequence: [0, 1, 2, 0],
    dataBytes: 4096,
    fillBytes: 0,
    isDirect: false,
    requestNs: 4000,
  };
  for (const clock of ['counted', ...pageModels()] as const) {
    const timeline = timelineOf({ costs }, requests, clock, { from: 0, to: 4 });
    expect(timeline.map(({ operations }) => operations.length)).toEqual([2, 0, 4, 2]);
    let now = 0;
    for (const { start, end, operations } of timeline) {
      expect(start).toBe(now);
      for (const operation of operations) {
        expect(operation.start).toBe(now);
        now = operation.end;
      }
      if (operations.length > 0) expect(end).toBe(now);
      now = end;
    }
    expect(now).toBeGreaterThan(8);
  }
  const other = { ...requests, sequence: [0, 1, 0, 0] };
  expect(firstDifference(requests, other)).toBe(2);
  expect(firstDifference(requests, { ...requests })).toBeUndefined();
});

test('marks of a scale are within it, and in order', () => {
  const positive = fc.double({ min: 1e-6, max: 1e12, noNaN: true });
  fc.assert(
    fc.property(
      positive,
      fc.double({ min: 1, max: 1e6, noNaN: true }),
      fc.integer({ min: 1, max: 12 }),
      (low, factor, ticks) => {
        for (const scale of [
          linearScale(low * factor, 500, ticks),
          logScale(low, low * factor, 500, ticks),
        ]) {
          expect(scale.ticks.toSorted((a, b) => a - b)).toEqual(scale.ticks);
          for (const tick of scale.ticks) {
            expect(scale.at(tick)).toBeGreaterThanOrEqual(-1);
            expect(scale.at(tick)).toBeLessThanOrEqual(501);
          }
        }
      },
    ),
  );
});

test('a table as CSV is quoted, and holds no formula', () => {
  expect(
    csvOf(
      ['Cell', 'a,b'],
      [
        ['say "x"', '1,024'],
        ['=1+1', '+12 %'],
        ['-1.5', '@x'],
      ],
    ),
  ).toBe('Cell,"a,b"\r\n"say ""x""","1,024"\r\n\'=1+1,+12 %\r\n-1.5,\'@x\r\n');
});
