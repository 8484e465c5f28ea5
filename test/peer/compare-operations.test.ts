/** The comparison forgives what QEMU's thread pool may reorder, and nothing else. */

import { expect, test } from 'vitest';

import type { HostLogRecord } from '../../src/device/host-log.ts';
import { compareOperations } from '../../src/peer/compare-operations.ts';
import type { HostOperation } from '../../src/peer/host-operation.ts';

/** `0 W 4096` or `0 F`: request, operation, offset. */
function theirs(...lines: readonly string[]): readonly HostOperation[] {
  return lines.map((line) => {
    const [request, letter, offset = '0'] = line.split(' ');
    const op = letter === 'F' ? 'sync' : letter === 'Z' ? 'zero-range' : letter === 'R' ? 'read' : 'write';
    const length = op === 'sync' ? 0 : 512;
    const base = { phase: 'run', request: Number(request), file: 'image', error: undefined } as const;
    return { ...base, op, offset: Number(offset), length };
  });
}

/** The same; `M` is a write of metadata. */
function ours(...lines: readonly string[]): readonly HostLogRecord[] {
  return theirs(...lines).map(({ op, offset, length }, index): HostLogRecord => {
    if (op === 'sync') return { phase: 'run', op, file: 'image', cause: 'guest-flush' };
    if (op === 'allocate') throw new Error('ours never allocates');
    const purpose = lines[index]?.includes(' M ') === true ? 'l2-table' : 'data';
    return { phase: 'run', op, file: 'image', offset, length, purpose };
  });
}

test('equal sequences are identical, and reads do not count', () => {
  const comparison = compareOperations(ours('0 W 0', '0 F'), theirs('0 R 8', '0 W 0', '0 F'));
  expect(comparison).toEqual({ identical: true, operations: 2, reorderedStretches: 0 });
});

test('reads count when they are asked for', () => {
  expect(compareOperations(ours('0 W 0'), theirs('0 R 8', '0 W 0'), { reads: true }).identical).toBe(false);
});

test('data of one request between two syncs may come in another order, among metadata too', () => {
  const comparison = compareOperations(
    ours('0 W 1', '0 M 2', '0 M 3', '0 W 4'),
    theirs('0 W 2', '0 W 4', '0 W 1', '0 W 3'),
  );
  expect(comparison).toMatchObject({ identical: true, reorderedStretches: 1 });
});

test('metadata of one request may not', () => {
  const comparison = compareOperations(ours('0 M 1', '0 M 2', '0 W 3'), theirs('0 W 3', '0 W 2', '0 W 1'));
  expect(comparison).toMatchObject({ identical: false });
});

test('operations of one request between two syncs may come in another order', () => {
  const comparison = compareOperations(
    ours('0 Z 0', '0 W 1', '0 W 2', '0 F', '1 W 3'),
    theirs('0 W 2', '0 Z 0', '0 W 1', '0 F', '1 W 3'),
  );
  expect(comparison).toEqual({ identical: true, operations: 5, reorderedStretches: 1 });
});

test('operations of two requests may not change places', () => {
  expect(compareOperations(ours('0 W 1', '1 W 2'), theirs('0 W 2', '1 W 1')).identical).toBe(false);
});

test('no operation moves across a sync', () => {
  const comparison = compareOperations(
    ours('0 W 1', '0 F', '0 W 2', '0 F'),
    theirs('0 W 2', '0 F', '0 W 1', '0 F'),
  );
  expect(comparison).toMatchObject({ identical: false, index: 0 });
});

test.each([
  ['an operation too many', ours('0 W 1', '0 F', '0 F'), 2],
  ['one too few', ours('0 W 1'), 1],
  ['another offset', ours('0 W 2', '0 F'), 0],
  ['another operation', ours('0 Z 1', '0 F'), 0],
])('%s is found', (_, left, index) => {
  expect(compareOperations(left, theirs('0 W 1', '0 F'))).toMatchObject({ identical: false, index });
});

test('what failed changed nothing and is left out', () => {
  const failed = theirs('0 Z 0').map((operation) => ({ ...operation, error: 'EOPNOTSUPP' }));
  expect(compareOperations(ours('0 W 1'), [...failed, ...theirs('0 W 1')]).identical).toBe(true);
});

test('a difference shows both sides around it', () => {
  const comparison = compareOperations(
    ours('0 W 4096', '0 F', '1 W 512'),
    theirs('0 W 4096', '0 F', '1 Z 512'),
  );
  expect(comparison.identical ? '' : comparison.text.split('\n').map((line) => line.trimEnd())).toEqual([
    "operation 2 differs (in QEMU's request 1); ours has 3, QEMU 3",
    '          ours                          QEMU',
    '       0  W 0x1000 512                  W 0x1000 512',
    '       1  F                             F',
    '>      2  W 0x200 512                   Z 0x200 512',
  ]);
});

test('space that is reserved again after a hole is not in our log, and does not count', () => {
  const [hole] = theirs('0 W 0').map((operation) => ({ ...operation, op: 'punch-hole' }) as const);
  const [reserved] = theirs('0 W 0').map((operation) => ({ ...operation, op: 'allocate' }) as const);
  const punched: HostLogRecord = {
    phase: 'run',
    op: 'punch-hole',
    file: 'image',
    offset: 0,
    length: 512,
    purpose: 'cow',
  };
  if (hole === undefined || reserved === undefined) throw new Error('one operation each');
  expect(compareOperations([punched], [hole, reserved]).identical).toBe(true);
  expect(compareOperations([], [hole, reserved]).identical).toBe(false);
});

/** A rebuilt refcount table and the header's pointer to it; `at` and `length` are of the pointer. */
function rebuilt(
  { at, length }: { readonly at: number; readonly length: number },
  table: 'refcount-table' | 'refcount-block' = 'refcount-table',
): readonly HostLogRecord[] {
  const image = { phase: 'open', file: 'image' } as const;
  return [
    { ...image, op: 'write', offset: 65_536, length: 512, purpose: table },
    { ...image, op: 'sync', cause: 'repair' },
    { ...image, op: 'write', offset: at, length, purpose: 'header' },
    { ...image, op: 'sync', cause: 'repair' },
  ];
}

test.each([
  ['plain', { at: 48, length: 12 }],
  ['padded to 512 bytes', { at: 0, length: 512 }],
  ['padded to 4 KiB', { at: 0, length: 4096 }],
])('our sync between a rebuilt refcount table and its pointer is left out, %s', (_, pointer) => {
  const { at, length } = pointer;
  const write = { phase: 'open', request: undefined, file: 'image', error: undefined, op: 'write' } as const;
  const theirOperations: readonly HostOperation[] = [
    { ...write, offset: 65_536, length: 512 },
    { ...write, offset: at, length },
    { ...write, op: 'sync', offset: 0, length: 0 },
  ];
  expect(compareOperations(rebuilt(pointer), theirOperations)).toMatchObject({ identical: true });
  // Any other sync before the header counts.
  expect(compareOperations(rebuilt(pointer, 'refcount-block'), theirOperations)).toMatchObject({
    identical: false,
  });
});
