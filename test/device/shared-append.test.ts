/** Appending to a file that others append to: one at a time, and nothing lost. */

import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { loadOfdLocks } from '../../src/device/ofd-lock.ts';
import { appendShared } from '../../src/device/shared-append.ts';
import { testDirectory } from '../test-directory.ts';

const path = join(testDirectory(), 'log');
const sizeMax = 1000;
const loaded = loadOfdLocks();

test('what is appended depends on the content; none is no change', () => {
  for (const word of ['one', 'two', 'one']) {
    appendShared(path, {
      sizeMax,
      append: (content) => (content.includes(word) ? undefined : { bytes: Buffer.from(`${word}\n`) }),
    });
  }
  expect(readFileSync(path, 'utf8')).toBe('one\ntwo\n');
});

test('what a killed process left behind is taken away only where the caller says so', () => {
  writeFileSync(path, 'whole\ntor');
  appendShared(path, { sizeMax, append: () => ({ bytes: Buffer.from('next\n'), keep: 6 }) });
  expect(readFileSync(path, 'utf8')).toBe('whole\nnext\n');
});

test.skipIf(!loaded.ok)('from reading to appending nothing else has the lock', () => {
  const isFree = (): boolean => {
    const file = openSync(path, 'r+');
    try {
      return loaded.ok && loaded.locks.writeLock(file, 0);
    } finally {
      closeSync(file);
    }
  };
  appendShared(path, {
    sizeMax,
    append: () => {
      expect(isFree()).toBe(false);
      return { bytes: Buffer.from('x\n') };
    },
  });
  expect(isFree()).toBe(true);
});

test('an error of the caller, a file that is too large and a place that is no file change nothing', () => {
  writeFileSync(path, 'content\n');
  const fails = (options: Partial<Parameters<typeof appendShared>[1]>, at = path): string => {
    try {
      appendShared(at, { sizeMax, append: () => ({ bytes: Buffer.from('more\n') }), ...options });
    } catch (error) {
      return error instanceof Error ? error.message : '';
    }
    return '';
  };
  const refuse = (): never => {
    throw new Error('refused');
  };
  expect(fails({ append: refuse })).toContain('refused');
  expect(fails({ sizeMax: 5 })).toContain('5 B');
  expect(fails({ sizeMax: 10 })).toContain('10 B');
  const directory = join(path, '..', 'directory');
  mkdirSync(directory);
  expect(fails({}, directory)).toContain('EISDIR');
  expect(fails({}, join(directory, 'none', 'x'))).toContain('ENOENT');
  expect(existsSync(join(directory, 'none'))).toBe(false);
  expect(readFileSync(path, 'utf8')).toBe('content\n');
});
