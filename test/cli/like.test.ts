/**
 * `--like`: which QEMU the engines follow, in the cells of a result and on an image that is served.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { parseResult } from '../../src/result/store.ts';
import { callCli } from './call-cli.ts';
import { errorLine, makeFolder } from './cli-process.ts';

const WORDS =
  'run --workload database-commit --requests 20 --format raw --cache writethrough --samples 0 --out result.json';

async function cellOf(folder: string, ...words: readonly string[]) {
  const ended = await callCli(folder, ...WORDS.split(' '), '--overwrite', ...words);
  expect(ended).toMatchObject({ code: 0 });
  const [record] = parseResult(readFileSync(join(folder, 'result.json'), 'utf8')).cells;
  return { like: record?.cell.like, syncs: record?.counts?.run.syncs.ops };
}

test('a cell names the newest by default; the oldest, as in older results, by no name', async () => {
  const folder = makeFolder();
  // Ten writes, a flush after each.
  expect(await cellOf(folder)).toEqual({ like: 'qemu-10.0', syncs: 20 });
  expect(await cellOf(folder, '--like', 'qemu-10.0')).toEqual({ like: 'qemu-10.0', syncs: 20 });
  expect(await cellOf(folder, '--like', 'qemu-7.2')).toEqual({ like: undefined, syncs: 10 });
});

test('a name that is none is refused with those that are', async () => {
  const ended = await callCli(makeFolder(), ...WORDS.split(' '), '--like', 'qemu-8.2');
  expect(ended.code).toBe(2);
  expect(errorLine(ended)).toContain("'qemu-8.2'");
  expect(errorLine(ended)).toContain('expected qemu-7.2 or qemu-10.0');
});
