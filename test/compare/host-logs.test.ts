import { expect, test } from 'vitest';

import { hostLogLines } from '../../src/compare/host-log-lines.ts';
import { compareHostLogs, type LogComparison, type LogOptions } from '../../src/compare/host-logs.ts';
import { logComparisonText } from '../../src/report/comparison/log-text.ts';

type Line = Readonly<Record<string, unknown>>;

/** A write that allocates: data, its L2 table, a sync. */
function allocatingWrite(request: number): readonly Line[] {
  const at = 65_536 * (request + 5);
  const guest = { op: 'write', offset: 65_536 * request, length: 4096 };
  return [
    { phase: 'run', op: 'write', file: 'image', offset: at, length: 4096, purpose: 'data', request, guest },
    {
      phase: 'run',
      op: 'write',
      file: 'image',
      offset: 262_144,
      length: 65_536,
      purpose: 'l2-table',
      request,
    },
    { phase: 'run', op: 'sync', file: 'image', cause: 'writethrough', request },
  ];
}

const log = Array.from({ length: 40 }, (_, request) => allocatingWrite(request)).flat();
const COW_SYNC = { phase: 'run', op: 'sync', file: 'image', cause: 'l2-after-cow', request: 17 };

function textOf(lines: readonly Line[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join('');
}

function compared(before: readonly Line[], after: readonly Line[], options?: LogOptions): LogComparison {
  const read = (lines: readonly Line[]) => hostLogLines(Buffer.from(textOf(lines)), 'a.jsonl');
  return compareHostLogs(read(before), read(after), options);
}

function inserted(at: number, ...lines: readonly Line[]): readonly Line[] {
  return [...log.slice(0, at), ...lines, ...log.slice(at)];
}

test('equal logs are the same', () => {
  expect(compared(log, log)).toEqual({
    operationsBefore: 120,
    operationsAfter: 120,
    first: undefined,
    totals: [],
  });
});

test('an added sync is found with its request, what the guest asked for, and its neighbours', () => {
  const { first, totals } = compared(log, inserted(3 * 17 + 1, COW_SYNC));
  expect(first).toMatchObject({ index: 52, kind: 'added', request: 17 });
  expect(first?.guest).toEqual({ op: 'write', offset: 65_536 * 17, length: 4096 });
  expect(first?.after.filter(({ isDifferent }) => isDifferent).map(({ line }) => line)).toEqual([53]);
  expect(first?.before.every(({ isDifferent }) => !isDifferent)).toBe(true);
  expect(totals.map(({ subject, kind }) => ({ ...subject, change: kind }))).toEqual([
    { kind: 'syncs', cause: 'l2-after-cow', change: 'more' },
  ]);
  const text = logComparisonText(compared(log, inserted(52, COW_SYNC)), { names: ['a', 'b'] });
  expect(text).toContain(
    'Host operation 52 (from 0) differs, in request 17 (write of 4096 bytes at guest offset 0x110000): B adds sync l2-after-cow.',
  );
});

test('a removed operation, and one that is longer, are distinguished from an added one', () => {
  const removed = log.filter((_, index) => index !== 3 * 9 + 2);
  expect(compared(log, removed).first).toMatchObject({ index: 29, kind: 'removed', request: 9 });
  const longer = log.map((line, index) => (index === 3 * 9 + 1 ? { ...line, length: 131_072 } : line));
  expect(compared(log, longer).first).toMatchObject({ index: 28, kind: 'changed', request: 9 });
});

test('a log that ends early lacks the rest', () => {
  expect(compared(log, log.slice(0, 100)).first).toMatchObject({ index: 100, kind: 'removed', request: 33 });
});

test('reads can be left out', () => {
  const read = {
    phase: 'run',
    op: 'read',
    file: 'image',
    offset: 0,
    length: 512,
    purpose: 'header',
    request: 2,
  };
  expect(compared(log, inserted(7, read)).first).toMatchObject({ kind: 'added' });
  expect(compared(log, inserted(7, read), { ignoreReads: true }).first).toBeUndefined();
});

test.each([
  ['not JSON', '{"phase":"run"', 'the file ends within this line'],
  ['no phase', '{"op":"sync"}\n', 'phase must be one of open, run, close'],
  ['an unknown operation', '{"phase":"run","op":"fsync","file":"image"}\n', 'op must be one of'],
  ['an unknown cause', '{"phase":"run","op":"sync","file":"image","cause":"why"}\n', 'cause must be'],
  [
    'a negative offset',
    '{"phase":"run","op":"read","file":"image","offset":-1,"length":1,"purpose":"data"}\n',
    'offset and length',
  ],
  [
    'an unknown purpose',
    '{"phase":"run","op":"read","file":"image","offset":0,"length":1,"purpose":"x"}\n',
    'purpose must be',
  ],
  [
    'bad parts',
    '{"phase":"run","op":"write","file":"image","offset":0,"length":1,"purpose":"data","parts":[1]}\n',
    'parts must be',
  ],
  [
    'a bad request',
    '{"phase":"run","op":"sync","file":"image","cause":"close","request":-1}\n',
    'request must be',
  ],
])('a line with %s is refused with its number', (_, line, rule) => {
  const text = textOf(log.slice(0, 2)) + line;
  expect(() => [...hostLogLines(Buffer.from(text), 'a.jsonl')]).toThrow(rule);
  expect(() => [...hostLogLines(Buffer.from(text), 'a.jsonl')]).toThrow('a.jsonl, line 3');
});
