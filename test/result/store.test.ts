import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { beforeEach, expect, test } from 'vitest';

import { Qcow2BenchError } from '../../src/core/error.ts';
import { LIMITS } from '../../src/core/limits.ts';
import type { CellRecord } from '../../src/result/schema.ts';
import { parseResult, readResult, ResultWriter, writeResult } from '../../src/result/store.ts';
import { ENVIRONMENT, syntheticResult } from '../report/synthetic-result.ts';
import { testDirectory } from '../test-directory.ts';

let directory: string;
let path: string;
const cells = syntheticResult().cells.slice(0, 4);
const [first, second] = cells as [CellRecord, CellRecord];

beforeEach(() => {
  directory = testDirectory();
  path = join(directory, 'run.json');
});

function failure(action: () => unknown): Qcow2BenchError {
  try {
    action();
  } catch (error) {
    if (error instanceof Qcow2BenchError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

/** The first cell with one value changed, as a file holds it. */
function tampered(change: (text: string) => string): string {
  const text = JSON.stringify({ schema: 'qcow2-bench/result@1', environment: ENVIRONMENT, cells: [first] });
  const changed = change(text);
  expect(changed).not.toBe(text);
  return changed;
}

test('a result that was written is read back equal', () => {
  writeResult(path, syntheticResult());
  expect(readResult(path)).toEqual(syntheticResult());
});

test('after every cell the file is a valid result, and no temporary file stays', () => {
  const writer = ResultWriter.create(path, ENVIRONMENT);
  expect(readResult(path).cells).toEqual([]);
  for (const [index, cell] of cells.entries()) {
    writer.putCell(cell);
    expect(readResult(path).cells).toEqual(cells.slice(0, index + 1));
    expect(readdirSync(directory)).toEqual(['run.json']);
  }
  expect(writer.finish()).toEqual(readResult(path));
});

test('a cell put again replaces its record and keeps its place', () => {
  const writer = ResultWriter.create(path, ENVIRONMENT);
  writer.putCell({ ...first, timings: [], timedRequests: 0 });
  writer.putCell(second);
  writer.putCell(first);
  expect(readResult(path).cells).toEqual([first, second]);
});

test('resume keeps finished cells and knows which they are', () => {
  ResultWriter.create(path, ENVIRONMENT).putCell(first);
  const resumed = ResultWriter.resume(path, { ...ENVIRONMENT, date: '2027-01-01T00:00:00Z' });
  expect(resumed.cellRecord(first.cell)).toEqual(first);
  expect(resumed.cellRecord(second.cell)).toBeUndefined();
  expect(resumed.cellRecord({ ...first.cell, queueDepth: 2 })).toBeUndefined();
  resumed.putCell(second);
  expect(readResult(path)).toMatchObject({ environment: ENVIRONMENT, cells: [first, second] });
});

test('resume of a file that does not exist begins it', () => {
  ResultWriter.resume(path, ENVIRONMENT);
  expect(readResult(path).cells).toEqual([]);
});

test.each(['seed', 'harness', 'cpu', 'node'] as const)(
  'resume refuses cells made with another %s',
  (field) => {
    ResultWriter.create(path, ENVIRONMENT).putCell(first);
    const other = { ...ENVIRONMENT, [field]: field === 'seed' ? 99 : 'other' };
    const error = failure(() => ResultWriter.resume(path, other));
    expect(error.code).toBe('result-other-environment');
    expect(error.message).toContain(field);
    expect(readResult(path).cells).toEqual([first]);
  },
);

test('an unwritable place fails before any cell is run, and names the path and the cause', () => {
  const error = failure(() => ResultWriter.create(join(directory, 'missing', 'run.json'), ENVIRONMENT));
  expect(error.code).toBe('write-failed');
  expect(error.message).toMatch(/missing\/run\.json.*ENOENT/);
  expect(failure(() => ResultWriter.create(directory, ENVIRONMENT)).message).toContain('is a directory');
});

test('a symbolic link stays a link and its target is replaced', () => {
  const target = join(directory, 'target.json');
  writeFileSync(target, 'old');
  symlinkSync(target, path);
  writeResult(path, syntheticResult());
  expect(lstatSync(path).isSymbolicLink()).toBe(true);
  expect(readResult(target).cells.length).toBeGreaterThan(0);
});

test.skipIf(process.platform === 'win32')('a pipe is written to, never replaced', () => {
  execFileSync('mkfifo', [path]);
  const reader = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  try {
    writeResult(path, { ...syntheticResult(), cells: [first] });
    expect(lstatSync(path).isFIFO()).toBe(true);
    const buffer = Buffer.alloc(65_536);
    const length = readSync(reader, buffer);
    expect(parseResult(buffer.toString('utf8', 0, length)).cells).toEqual([first]);
  } finally {
    closeSync(reader);
  }
});

test('a record that does not fit the schema is a bug of the program and is not written', () => {
  const writer = ResultWriter.create(path, ENVIRONMENT);
  expect(() => writer.putCell({ ...first, counts: null })).toThrow(/internal error/);
  expect(readResult(path).cells).toEqual([]);
});

test('a missing, cut, foreign or huge file is named, with line, version or limit', () => {
  expect(failure(() => readResult(path)).code).toBe('result-unreadable');

  const text = (writeResult(path, syntheticResult()), readFileSync(path, 'utf8'));
  truncateSync(path, text.length - 40);
  const cut = failure(() => readResult(path));
  expect(cut).toMatchObject({ code: 'result-not-json', line: text.slice(0, -40).split('\n').length });

  writeFileSync(path, '{\n  "schema": "qcow2-bench/result@1",\n  oops\n}');
  expect(failure(() => readResult(path))).toMatchObject({ code: 'result-not-json', line: 3 });

  writeFileSync(path, '{"schema":"qcow2-bench/result@2"}');
  expect(failure(() => readResult(path)).message).toContain(`has schema 'qcow2-bench/result@2'`);

  writeFileSync(path, '[]');
  expect(failure(() => readResult(path)).code).toBe('result-schema-version');

  truncateSync(path, LIMITS.resultFileBytes + 1);
  expect(failure(() => readResult(path)).code).toBe('result-too-large');
});

test('a field that breaks the schema is named by its path', () => {
  const text = tampered((json) => json.replace('"writes":1000,', '"writes":-1,'));
  const error = failure(() => parseResult(text, 'run.json'));
  expect(error.code).toBe('result-invalid');
  expect(error.message).toContain('run.json: field cells[0].counts.guest.writes');
});

test('a record that contradicts itself is refused: parts must add up', () => {
  const bytes = tampered((json) => json.replace('"data":{"ops":1000,', '"data":{"ops":999,'));
  expect(failure(() => parseResult(bytes)).message).toContain(
    'counts.run.writes.ops: is 1000, but its purposes',
  );
  const causes = tampered((json) => json.replace('"writethrough":1000}', '"writethrough":7}'));
  expect(failure(() => parseResult(causes)).message).toContain(
    'counts.run.syncs.ops: is 1000, but its causes',
  );
});

test('an unknown purpose, cause or field is refused', () => {
  for (const [from, to] of [
    ['"data":{', '"date":{'],
    ['"writethrough":1000}', '"writethru":1000}'],
    ['"fallbacks":[]', '"fallbacks":[],"extra":1'],
  ] as const) {
    expect(failure(() => parseResult(tampered((json) => json.replace(from, to)))).code).toBe(
      'result-invalid',
    );
  }
});

test('a cell that occurs twice is refused', () => {
  const result = { schema: 'qcow2-bench/result@1', environment: ENVIRONMENT, cells: [first, second, first] };
  const error = failure(() => parseResult(JSON.stringify(result)));
  expect(error.code).toBe('result-duplicate-cell');
  expect(error.message).toContain('cells[2] (stride · raw');
});
