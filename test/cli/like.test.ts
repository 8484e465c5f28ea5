/**
 * `--like`: which QEMU the engines follow, in the cells of a result and on an image that is served.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { parseResult } from '../../src/result/store.ts';
import { WORKLOAD_SCHEMA } from '../../src/workload/schema.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine } from './cli-process.ts';

const WORDS =
  'run --workload database-commit --requests 20 --format raw --cache writethrough --samples 0 --out result.json';

async function cellOf(folder: string, ...words: readonly string[]) {
  const ended = await callCli(folder, ...WORDS.split(' '), '--overwrite', ...words);
  expect(ended).toMatchObject({ code: 0 });
  const [record] = parseResult(readFileSync(join(folder, 'result.json'), 'utf8')).cells;
  return { like: record?.cell.like, syncs: record?.counts?.run.syncs.ops };
}

test('a cell names the newest by default; the oldest, as in older results, by no name', async () => {
  const folder = testDirectory();
  // Ten writes, a flush after each.
  expect(await cellOf(folder)).toEqual({ like: 'qemu-10.0', syncs: 20 });
  expect(await cellOf(folder, '--like', 'qemu-10.0')).toEqual({ like: 'qemu-10.0', syncs: 20 });
  expect(await cellOf(folder, '--like', 'qemu-7.2')).toEqual({ like: undefined, syncs: 10 });
});

test('discard-no-unref keeps refcounts, in the cell too; without qcow2 or like 7.2 it is refused', async () => {
  const folder = testDirectory();
  const steps = { blockSizes: [{ size: '64KiB' }], pattern: { kind: 'sequential' } };
  const prefill = [{ name: 'fill', requests: 8, mix: { write: 1 }, ...steps }];
  const workload = {
    schema: WORKLOAD_SCHEMA,
    name: 'trim',
    title: 'Discards',
    description: 'Discards of what the prefill wrote.',
    seed: 1,
    image: { size: '4MiB', prefill },
    phases: [{ name: 'trim', requests: 8, mix: { discard: 1 }, ...steps }],
  };
  writeFileSync(join(folder, 'trim.json'), JSON.stringify(workload));
  const words = 'run --workload trim.json --refcounts eager --cache writeback --samples 0 --out result.json';
  const run = (...more: readonly string[]) => callCli(folder, ...words.split(' '), '--overwrite', ...more);
  expect(await run('--format', 'qcow2', '--discard-no-unref', 'off,on')).toMatchObject({ code: 0 });
  const { cells } = parseResult(readFileSync(join(folder, 'result.json'), 'utf8'));
  expect(cells.map(({ cell }) => cell.discardNoUnref)).toEqual([undefined, true]);
  expect(cells.map(({ counts }) => counts?.run.punchHoles.ops)).toEqual([8, 8]);
  // The L2 table at the close, and the refcount block.
  expect(cells.map(({ counts }) => counts?.close.writes.ops)).toEqual([2, 1]);

  const like = await run('--format', 'qcow2', '--discard-no-unref', 'on', '--like', 'qemu-7.2');
  expect(like.code).toBe(2);
  expect(errorLine(like)).toContain(
    '--discard-no-unref: qemu-7.2 has no discard-no-unref; use it with qemu-10.0',
  );
  const raw = await run('--format', 'raw,qed', '--discard-no-unref', 'on');
  expect(raw.code).toBe(2);
  expect(errorLine(raw)).toContain('--discard-no-unref: not supported by raw, qed; use it with qcow2');
});

test('a name that is none is refused with those that are', async () => {
  const ended = await callCli(testDirectory(), ...WORDS.split(' '), '--like', 'qemu-8.2');
  expect(ended.code).toBe(2);
  expect(errorLine(ended)).toContain("'qemu-8.2'");
  expect(errorLine(ended)).toContain('expected qemu-7.2 or qemu-10.0');
});
