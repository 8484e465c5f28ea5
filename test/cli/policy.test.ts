/** `--policy`: what orders metadata, as an axis, in the answer, and where no format has it. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { parseResult } from '../../src/result/store.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';
import { errorLine, startCli } from './cli-process.ts';
import { TINY } from './tiny-workload.ts';

const WORDS = '--workload tiny.json --samples 0 --out result.json --cache writethrough';

function folderWithWorkload(): string {
  const folder = testDirectory();
  writeFileSync(join(folder, 'tiny.json'), JSON.stringify(TINY));
  return folder;
}

test('what strict costs is counted by cause and is in the answer; eager refcounts pay nothing', async () => {
  const folder = folderWithWorkload();
  const words = `run ${WORDS} --format raw,qcow2,qed --policy qemu,strict`;
  const ended = await callCli(folder, ...words.split(' '));
  expect(ended).toMatchObject({ code: 0 });
  const { cells } = parseResult(readFileSync(join(folder, 'result.json'), 'utf8'));
  const costs = cells.map(({ cell: { format, refcounts, policy }, counts }) => {
    const { ops, byCause } = counts?.run.syncs ?? { ops: 0, byCause: {} };
    const { 'l2-after-data': data = 0, 'mark-before-link': mark = 0 } = byCause;
    return [format, refcounts, policy, ops, data, mark];
  });
  // Raw has no metadata: one cell. The first write of lazy refcounts has the dirty bit's sync.
  expect(costs).toEqual([
    ['raw', null, undefined, 10, 0, 0],
    ['qcow2', 'eager', undefined, 23, 0, 0],
    ['qcow2', 'lazy', undefined, 14, 0, 0],
    ['qed', null, undefined, 11, 0, 0],
    ['qcow2', 'eager', 'strict', 23, 0, 0],
    ['qcow2', 'lazy', 'strict', 23, 9, 0],
    ['qed', null, 'strict', 12, 0, 1],
  ]);
  expect(ended.stdout).toMatch(/Policy +A guest write costs .* with policy qemu and .* with policy strict/);
});

test('a format without metadata has the default policy alone', async () => {
  const folder = folderWithWorkload();
  const refused = await callCli(folder, ...`run ${WORDS} --format raw --policy strict`.split(' '));
  expect(refused.code).toBe(2);
  expect(errorLine(refused)).toContain('--policy: not supported by raw; use it with qcow2 or qed');
  const taken = await callCli(folder, ...`run ${WORDS} --format raw --policy qemu`.split(' '));
  expect(taken.code).toBe(0);
  const unknown = await callCli(folder, ...`run ${WORDS} --policy soft`.split(' '));
  expect(unknown.code).toBe(2);
  expect(errorLine(unknown)).toContain("'soft'");
});

test('crash takes it: the cells and their examples have it', async () => {
  const folder = folderWithWorkload();
  const words = 'crash --workload tiny.json --states 60 --format qed --cache writeback --json --policy';
  const crash = async (policy: string) => {
    const { code, stdout } = await callCli(folder, ...words.split(' '), policy);
    expect(code).toBe(0);
    return JSON.parse(stdout) as unknown;
  };
  expect(await crash('strict')).toMatchObject({ cells: [{ cell: { policy: 'strict' }, hazards: {} }] });
});

test.each([
  ['soft-updates', 1],
  ['strict', 0],
] as const)('serve --policy %s warns if a power loss can damage the image', async (policy, warnings) => {
  const folder = testDirectory();
  const words = `serve --image d.qcow2 --create 1MiB --format qcow2 --socket s --policy ${policy}`;
  const served = startCli(folder, ...words.split(' '));
  await new Promise((resolve) => served.process.stdout?.once('data', resolve));
  served.process.kill('SIGINT');
  const { stderr } = await served.ended;
  const said = stderr.split('\n').filter((line) => line.includes('a power loss can damage the image'));
  expect(said).toHaveLength(warnings);
});
