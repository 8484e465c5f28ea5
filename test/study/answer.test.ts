import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { answerOf } from '../../src/study/answer.ts';
import { pivotOf } from '../../src/study/pivot.ts';
import { studySchema, type Rule } from '../../src/study/schema.ts';
import { studyTable } from '../../src/study/table.ts';
import { smallResult, type SmallCell } from './small-study.ts';

const STUDY = {
  schema: 'qcow2-bench/study@1',
  name: 's',
  question: 'q',
  description: 'd',
  workloads: ['w'],
  axes: {},
  table: { rows: ['workload'], figures: ['syncs'] },
  chart: { title: 't', mark: 'bars', figure: 'syncs', axis: 'cache' },
};

function rulesOf(...answer: readonly object[]): readonly Rule[] {
  return studySchema.parse({ ...STUDY, answer }).answer;
}

function textsOf(rule: object, cells: readonly SmallCell[]): readonly string[] {
  const table = studyTable(smallResult(cells));
  return answerOf({ answer: [...rulesOf({ about: 'a', ...rule })] }, table).map(({ text }) => text);
}

const CHANGE = {
  kind: 'change',
  figure: 'syncs',
  axis: 'refcounts',
  from: 'eager',
  to: 'lazy',
  less: 'LESS {to} for {from}, {range}, {place}.',
  more: 'MORE {to} for {from}.',
  same: 'SAME {to}.',
};

describe('a change', () => {
  const pair = (workload: string, eager: number, lazy: number): readonly SmallCell[] => [
    { workload, refcounts: 'eager', syncs: eager },
    { workload, refcounts: 'lazy', syncs: lazy },
  ];

  test('has the sentence of all pairs, with the greatest change and the range', () => {
    const cells = [...pair('a', 2, 1), ...pair('b', 4, 1)];
    expect(textsOf(CHANGE, cells)).toEqual(['LESS 1.00 for 4.00, 50 % to 75 %, b.']);
  });

  test('names the pairs without a difference', () => {
    const cells = [...pair('a', 2, 1), ...pair('b', 1, 1)];
    expect(textsOf(CHANGE, cells)).toEqual(['LESS 1.00 for 2.00, 50 %, a. No difference: b.']);
  });

  test('has a sentence only if every pair agrees with it', () => {
    const syncs = fc.nat(300).map((value) => value / 100);
    fc.assert(
      fc.property(fc.array(fc.tuple(syncs, syncs), { minLength: 1, maxLength: 6 }), (pairs) => {
        const cells = pairs.flatMap(([eager, lazy], index) => pair(`w${String(index)}`, eager, lazy));
        const [text = ''] = textsOf(CHANGE, cells);
        const less = pairs.filter(([eager, lazy]) => lazy < eager).length;
        const more = pairs.filter(([eager, lazy]) => lazy > eager).length;
        expect(text.startsWith('LESS')).toBe(less > 0 && more === 0);
        expect(text.startsWith('MORE')).toBe(more > 0 && less === 0);
        expect(text.startsWith('SAME')).toBe(more === 0 && less === 0);
        if (less > 0 && more > 0) expect(text).toMatch(/less for .*more for /);
      }),
    );
  });

  test('is said once for values with the same sentence, and names them', () => {
    const cells = (['none', 'writeback', 'unsafe'] as const).flatMap((cache): SmallCell[] => [
      { cache, refcounts: 'eager', syncs: cache === 'unsafe' ? 0 : 2 },
      { cache, refcounts: 'lazy', syncs: cache === 'unsafe' ? 0 : 1 },
    ]);
    expect(
      textsOf({ ...CHANGE, per: ['cache'], less: '{cache}: {to}.', same: '{cache}: same.' }, cells),
    ).toEqual(['none and writeback: 1.00.', 'unsafe: same.']);
  });

  test('compares a format without clusters with each cluster size', () => {
    const cells: readonly SmallCell[] = [
      { format: 'raw', refcounts: null, clusterSize: null, syncs: 1 },
      { clusterSize: 4096, syncs: 3 },
      { clusterSize: 65_536, syncs: 2 },
    ];
    const rule = { ...CHANGE, axis: 'variant', from: 'raw', to: 'qcow2 eager', per: ['cluster-size'] };
    expect(textsOf({ ...rule, more: '{cluster-size}: {to}.' }, cells)).toEqual([
      '4KiB: 3.00.',
      '64KiB: 2.00.',
    ]);
  });

  test('without cells has no sentence', () => {
    expect(textsOf(CHANGE, [{ refcounts: 'eager', syncs: 1 }])).toEqual([]);
    expect(textsOf({ ...CHANGE, where: { cache: 'unsafe' } }, pair('a', 2, 1))).toEqual([]);
    expect(textsOf({ ...CHANGE, where: { workload: '!a' } }, pair('a', 2, 1))).toEqual([]);
  });
});

describe('figures below a file system', () => {
  const on = (hostFs: 'ext4' | 'btrfs', flushes: readonly number[]): SmallCell => ({ hostFs, flushes });
  const rule = { ...CHANGE, figure: 'deviceFlushes', axis: 'host-fs', from: 'ext4', to: 'btrfs' };

  test('differ only if their intervals leave a gap', () => {
    const ext4 = on('ext4', [200, 201, 200, 202, 200]);
    expect(textsOf(rule, [ext4, on('btrfs', [400, 401, 400, 399, 402])])).toEqual(['MORE 4.00 for 2.00.']);
    const wide = [202, 230, 199, 240, 202];
    expect(textsOf(rule, [ext4, on('btrfs', wide)])).toEqual(['SAME 2.02.']);
    const steady = on('btrfs', [200, 201, 200, 202, 200]);
    expect(textsOf(rule, [on('ext4', wide), steady])).toEqual(['SAME 2.00.']);
    expect(textsOf(rule, [on('ext4', [400, 401, 400, 399, 402]), steady])).toEqual([
      'LESS 2.00 for 4.00, 50 %, here.',
    ]);
  });

  test('of fewer than five samples are not compared', () => {
    const [text] = textsOf(rule, [on('ext4', [200, 200]), on('btrfs', [400, 400])]);
    expect(text).toMatch(/^Not known yet: there are too few samples/);
  });

  test('are a row for each file system, with the interval where it has a width', () => {
    const cells = [on('ext4', [200, 200, 200, 200, 200]), on('btrfs', [400, 410, 420, 430, 440])];
    const { table } = studySchema.parse({
      ...STUDY,
      answer: [{ about: 'a', ...rule }],
      table: { rows: ['workload', 'host-fs'], figures: ['deviceFlushes'] },
    });
    const { lines } = pivotOf({ table }, studyTable(smallResult(cells)));
    expect(lines.map(({ names, texts }) => [...names, ...texts])).toEqual([
      ['w', 'ext4', '2.00'],
      ['w', 'btrfs', '4.20 (4.00–4.40)'],
    ]);
  });
});

describe('times', () => {
  const RULE = { kind: 'times', axis: 'refcounts', from: 'eager', to: 'lazy', text: 'T {times}.' };
  const steady = (ns: number): readonly number[] => Array.from({ length: 9 }, (_, n) => ns + n);
  const timed = (eager: readonly number[], lazy: readonly number[]): readonly SmallCell[] => [
    { refcounts: 'eager', times: eager, control: eager.map((ns) => ns + 1) },
    { refcounts: 'lazy', times: lazy },
  ];

  test('of a file are in words only if the samples show a difference', () => {
    expect(textsOf(RULE, timed(steady(20_000), steady(10_000)))).toEqual([
      'T on this machine 10.0 µs instead of 20.0 µs (50 % less).',
    ]);
    expect(textsOf(RULE, timed(steady(20_000), steady(20_000)))).toEqual([
      'Lazy refcounts instead of eager refcounts: on this machine no difference is shown.',
    ]);
    expect(textsOf(RULE, timed([20_000], [10_000]))).toEqual([
      'Lazy refcounts instead of eager refcounts: on this machine the difference is not known yet (too few samples).',
    ]);
  });

  test('of models are exact', () => {
    const device = 'model:nvme-plp';
    const cells: readonly SmallCell[] = [
      { refcounts: 'eager', device, times: [10_000] },
      { refcounts: 'lazy', device, times: [25_000] },
    ];
    expect(textsOf(RULE, cells)).toEqual(['T on nvme-plp 25.0 µs instead of 10.0 µs (2.50× as long).']);
  });
});

describe('the first value that is enough', () => {
  const RULE = {
    kind: 'enough',
    figure: 'syncs',
    axis: 'l2-cache-size',
    within: 0.1,
    text: '{value}: {at}, {before}: {beforeAt}.',
    always: 'ALWAYS {value}.',
    last: 'LAST {value}.',
  };
  const sized = (...syncs: readonly number[]): readonly SmallCell[] =>
    syncs.map((value, index) => ({ syncs: value, caches: { l2CacheSize: 65_536 * 2 ** index } }));

  test('is followed by none that is worse', () => {
    expect(textsOf(RULE, sized(5, 3, 1, 1))).toEqual(['256KiB: 1.00, 128KiB: 3.00.']);
    expect(textsOf(RULE, sized(1, 3, 1.05, 1))).toEqual(['256KiB: 1.05, 128KiB: 3.00.']);
  });

  test('is the smallest if nothing is gained, and may not be the last', () => {
    expect(textsOf(RULE, sized(1, 1))).toEqual(['ALWAYS 64KiB.']);
    expect(textsOf(RULE, sized(3, 2, 1))).toEqual(['LAST 256KiB.']);
  });
});

describe('the best value', () => {
  const RULE = {
    kind: 'best',
    figure: 'syncs',
    axis: 'cache',
    one: 'ONE {best} {at}, {worst} {worstAt}.',
    tie: 'TIE.',
  };
  const costs = (workload: string, none: number, unsafe: number): readonly SmallCell[] => [
    { workload, cache: 'none', syncs: none },
    { workload, cache: 'unsafe', syncs: unsafe },
  ];

  test('is named if it is the best everywhere', () => {
    expect(textsOf(RULE, [...costs('a', 2, 1), ...costs('b', 3, 0)])).toEqual(['ONE unsafe 0, none 3.00.']);
    expect(textsOf(RULE, [...costs('a', 2, 2), ...costs('b', 3, 3)])).toEqual(['TIE.']);
  });

  test('is listed by place where places differ', () => {
    expect(textsOf(RULE, [...costs('a', 2, 1), ...costs('b', 1, 3)])).toEqual([
      'Least syncs per guest write, by cache: unsafe for a; none for b.',
    ]);
  });
});

test('values that share a sentence are listed only if it is true of every combination', () => {
  const rule = {
    kind: 'zero',
    figure: 'syncs',
    per: ['workload', 'cache'],
    zero: '{workload} {cache}',
    some: 'some',
  };
  const combination = fc.record({
    workload: fc.constantFrom('a', 'b', 'c'),
    cache: fc.constantFrom('none', 'writeback', 'unsafe'),
  });
  const words = (text: string): readonly string[] => text.split(/, | and /);
  fc.assert(
    fc.property(
      fc.uniqueArray(combination, { selector: (each) => JSON.stringify(each), minLength: 1 }),
      (cells) => {
        const said = textsOf(rule, cells as readonly SmallCell[]).flatMap((text) => {
          const [, workloads = '', caches = ''] = /^((?:[abc](?:, | and )?)+) (.*)$/.exec(text) ?? [];
          return words(workloads).flatMap((workload) => words(caches).map((cache) => `${workload} ${cache}`));
        });
        expect(said.toSorted()).toEqual(
          cells.map(({ workload, cache }) => `${workload} ${cache}`).toSorted(),
        );
      },
    ),
  );
});

test('zero in all cells, or where it is not', () => {
  const rule = { kind: 'zero', figure: 'syncs', zero: 'ZERO of {cells}.', some: '{count}: {places}.' };
  expect(textsOf(rule, [{ workload: 'a' }, { workload: 'b' }])).toEqual(['ZERO of 2.']);
  expect(textsOf(rule, [{ workload: 'a' }, { workload: 'b', syncs: 1 }])).toEqual(['1.00: b.']);
});

test('values with the same figure are listed together', () => {
  const rule = { kind: 'values', figure: 'syncs', axis: 'cache', text: '{values}.' };
  const cells = (['none', 'writeback', 'unsafe'] as const).map((cache): SmallCell => ({
    cache,
    syncs: cache === 'unsafe' ? 0 : 1,
  }));
  expect(textsOf(rule, cells)).toEqual(['1.00 with none and writeback, 0 with unsafe.']);
});

describe('a study file', () => {
  const faultsOf = (rule: object): readonly string[] => {
    const parsed = studySchema.safeParse({ ...STUDY, answer: [{ about: 'a', ...rule }] });
    return parsed.success ? [] : parsed.error.issues.map(({ message }) => message);
  };

  test('has only placeholders that its rule fills', () => {
    expect(faultsOf({ ...CHANGE, less: '{to} {cache}' })).toEqual([
      "{cache} is no placeholder of 'change'; use {from}, {to}, {change}, {factor}, {range}, {place}, {pairs}",
    ]);
    expect(faultsOf({ ...CHANGE, less: '{to} {cache}', per: ['cache'] })).toEqual([]);
  });

  test('names axes and figures that exist', () => {
    expect(faultsOf({ ...CHANGE, axis: 'colour' })).toHaveLength(1);
    expect(faultsOf({ ...CHANGE, figure: 'speed' })[0]).toMatch(/^must be a figure: syncs, /);
    expect(faultsOf({ ...CHANGE, sentence: 'x' })).toEqual(['Unrecognized key: "sentence"']);
  });
});
