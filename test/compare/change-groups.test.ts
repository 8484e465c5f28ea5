import fc from 'fast-check';
import { expect, test } from 'vitest';

import { COUNT_LEAVES, leafChanges, meaningOf, type CellChange } from '../../src/compare/cell-counts.ts';
import { groupChanges, subjectKey } from '../../src/compare/change-groups.ts';
import { changeText } from '../../src/compare/change-text.ts';
import { resultSide } from '../../src/compare/compare-results.ts';
import { syntheticResult } from '../report/synthetic-result.ts';

const { counted } = resultSide('synthetic', syntheticResult());

/** Every counted cell, with leaves changed by amounts that depend on it. */
function changesOf(
  differences: (cell: (typeof counted)[number]) => Readonly<Record<string, number>>,
): readonly CellChange[] {
  return counted.flatMap((before) => {
    const counts = { ...before.counts };
    for (const [leaf, difference] of Object.entries(differences(before))) {
      counts[leaf] = (counts[leaf] ?? 0) + difference;
    }
    const changes = leafChanges(before, { ...before, counts });
    return changes.length === 0 ? [] : [{ cell: before.cell, guest: before.guest, changes }];
  });
}

const lazyWrites = changesOf(({ cell, guest }) =>
  cell.refcounts === 'lazy' && cell.cache === 'writethrough' && guest.allocatingWrites > 0
    ? { 'run.syncs.byCause.l2-after-cow': guest.allocatingWrites }
    : {},
);

test('one more sync per allocating write in several cells is one group with its rate', () => {
  const groups = groupChanges(lazyWrites);
  expect(groups).toHaveLength(1);
  const [group] = groups;
  expect(group?.cells).toHaveLength(lazyWrites.length);
  expect(group?.lead).toMatchObject({
    kind: 'more',
    rate: { per: 'allocating write', mean: 1, min: 1, max: 1 },
  });
  expect(group && changeText(group.lead)).toBe(
    '+1.00 sync per allocating write, l2-after-cow (copied data before its L2 entry)',
  );
});

test('two causes in different cells are two groups', () => {
  const headers = changesOf(({ cell }) =>
    cell.format === 'qed'
      ? { 'close.writes.byPurpose.header.ops': 1, 'close.writes.byPurpose.header.bytes': 512 }
      : {},
  );
  const groups = groupChanges([...headers, ...lazyWrites]);
  expect(groups.map(({ lead }) => subjectKey(lead.subject))).toEqual(['syncs/l2-after-cow', 'writes/header']);
  expect(groups[1] && changeText(groups[1].lead)).toMatch(
    /^\+1\.00 write per close, header \(header cluster\), bytes /,
  );
});

test('two causes in the same cells are named together, led by the sync', () => {
  const both = changesOf(({ cell }) =>
    cell.format === 'qed' ? { 'run.reads.byPurpose.l2-table.ops': 3, 'run.syncs.byCause.dirty-bit': 1 } : {},
  );
  const [group, ...others] = groupChanges(both);
  expect(others).toEqual([]);
  expect(group?.lead.subject).toEqual({ kind: 'syncs', cause: 'dirty-bit' });
  expect(group?.also.map(({ subject }) => subjectKey(subject))).toEqual(['reads/l2-table']);
});

test('a sync that is gone is a lost sync; one with another cause, or elided, is not', () => {
  const changed = (difference: Readonly<Record<string, number>>): readonly string[] =>
    groupChanges(changesOf(({ cell }) => (cell.refcounts === 'eager' ? difference : {}))).map(
      ({ lead: { subject, kind } }) => `${subjectKey(subject)} ${kind}`,
    );
  expect(changed({ 'run.syncs.byCause.l2-after-refcount': -1 })).toEqual([
    'syncs/l2-after-refcount lost-syncs',
  ]);
  expect(changed({ 'run.syncs.byCause.l2-after-refcount': -1, 'run.syncs.byCause.l2-after-cow': 1 })).toEqual(
    ['syncs/l2-after-cow more'],
  );
  expect(changed({ 'run.syncs.byCause.l2-after-refcount': -1, 'run.syncs.elided': 1 })).toEqual([
    'syncs/l2-after-refcount neutral',
  ]);
});

test('an operation in another phase is said to be moved', () => {
  const [group] = groupChanges(
    changesOf(({ cell }) =>
      cell.format === 'qed'
        ? { 'run.writes.byPurpose.header.ops': 1, 'close.writes.byPurpose.header.ops': -1 }
        : {},
    ),
  );
  expect(group && changeText(group.lead)).toBe('writes in another phase, header (header cluster)');
});

test('every changed leaf of every cell is in a group, whatever changes', () => {
  const leaf = fc.constantFrom(...COUNT_LEAVES);
  const difference = fc.integer({ min: -3, max: 3 }).filter((by) => by !== 0);
  const change = fc.dictionary(leaf, difference, { minKeys: 1, maxKeys: 4 });
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 5 }), (cells) => {
      const changes = cells.map((own, index): CellChange => {
        const base = counted[index];
        if (base === undefined) throw new Error('the fixture has cells');
        return {
          cell: base.cell,
          guest: base.guest,
          changes: Object.entries(own).map(([name, by]) => ({
            ...meaningOf(name),
            before: 10,
            after: 10 + by,
          })),
        };
      });
      const groups = groupChanges(changes);
      const reported = new Set(
        groups.flatMap(({ lead, also }) => [lead, ...also].map(({ subject }) => subjectKey(subject))),
      );
      for (const { changes: own } of changes) {
        for (const { counted: what } of own) {
          const key =
            what.kind === 'elided'
              ? 'elided'
              : `${what.kind}/${what.kind === 'syncs' ? what.cause : what.purpose}`;
          expect(reported).toContain(key);
        }
      }
    }),
  );
});

test('operations of one purpose are one group, also if some changed in a part of the cells', () => {
  const padded = changesOf(({ cell }) =>
    cell.format === 'qed'
      ? {
          'run.writes.byPurpose.header.ops': 1,
          ...(cell.cache === 'none' ? { 'run.reads.byPurpose.header.ops': 1 } : {}),
        }
      : {},
  );
  const [group, ...others] = groupChanges(padded);
  expect(others).toEqual([]);
  expect(group && subjectKey(group.lead.subject)).toBe('writes/header');
  expect(group?.cells).toHaveLength(padded.length);
  expect(group?.also).toMatchObject([{ subject: { kind: 'reads', purpose: 'header' } }]);
  expect(group?.also[0]?.cells).toBeLessThan(padded.length);
});

test('another purpose in a part of the cells is another group', () => {
  const two = changesOf(({ cell }) =>
    cell.format === 'qed'
      ? {
          'run.writes.byPurpose.header.ops': 1,
          ...(cell.cache === 'none' ? { 'run.reads.byPurpose.l2-table.ops': 1 } : {}),
        }
      : {},
  );
  expect(groupChanges(two)).toHaveLength(2);
});

test('flushes that are elided in place of syncs are one group', () => {
  const elided = changesOf(({ guest }) =>
    guest.flushes > 0 ? { 'run.syncs.elided': 1, 'run.syncs.byCause.guest-flush': -1 } : {},
  );
  const [group, ...others] = groupChanges(elided);
  expect(others).toEqual([]);
  expect(group?.lead).toMatchObject({ kind: 'neutral', subject: { cause: 'guest-flush' } });
  expect(group?.also).toMatchObject([{ subject: { kind: 'elided' } }]);
});
