/** Chains of backing files that a workload describes, each file with its own data. */

import { describe, expect, test } from 'vitest';

import { unnamedFormat } from '../../src/bench/backing-layers.ts';
import type { CellPlan } from '../../src/bench/engine.ts';
import { prepareFiles } from '../../src/bench/prepare.ts';
import { openStack } from '../../src/bench/stack.ts';
import { unsupportedByFormat } from '../../src/bench/unsupported.ts';
import { MemoryStorage } from '../../src/device/memory-storage.ts';
import { chainSource, smallMatrix, type SmallSetting } from './small-run.ts';

const DISK_BYTES = 64 * 1024 * 1024;

function plansOf(depths?: readonly number[], setting: SmallSetting = {}): readonly CellPlan[] {
  const sources = [chainSource()];
  return smallMatrix({ sources, backingDepths: depths }, { payload: 'random', ...setting });
}

/** The disk as the guest finds it before the run. */
async function diskOf(plan: CellPlan): Promise<Uint8Array> {
  const storage = new MemoryStorage();
  using files = await prepareFiles({ plan, storage, imageName: 'image', backingName: 'backing' });
  await using stack = await openStack({
    ...files.stack,
    format: plan.cell.format,
    cache: 'writeback',
    readOnly: true,
  });
  const disk = new Uint8Array(DISK_BYTES);
  await stack.image.read(0, disk);
  return disk;
}

describe('a chain of three files, the middle one shorter than the image', () => {
  test('is named in the cell: the format of its base and its depth', () => {
    const cells = plansOf().map(({ cell }) => [cell.format, cell.backing, cell.backingDepth]);
    expect(cells).toEqual([
      ['raw', undefined, undefined],
      ['qcow2', 'raw', 3],
      ['qcow2', 'raw', 3],
      ['qed', 'raw', 3],
    ]);
  });

  test('has the data that a copy of it has, in every format', async () => {
    const disks = [];
    for (const plan of [...plansOf([0]), ...plansOf()]) disks.push(await diskOf(plan));
    const [first, ...others] = disks;
    expect(first?.some((byte) => byte !== 0)).toBe(true);
    // The end of the middle file cuts off the base's data there.
    expect(first?.subarray(16 * 1024 * 1024, 24 * 1024 * 1024).every((byte) => byte === 0)).toBe(true);
    for (const disk of others) expect(Buffer.compare(disk, first ?? new Uint8Array())).toBe(0);
  });

  test('is made in no other depth', () => {
    const reasons = plansOf([0, 2, 3]).map((plan) => [
      plan.cell.format,
      plan.cell.backingDepth,
      unsupportedByFormat(plan),
    ]);
    const other = 'the workload has its own chain of 3 backing files, not of 2';
    expect(reasons.filter(([format]) => format === 'qed')).toEqual([
      ['qed', undefined, undefined],
      ['qed', 2, other],
      ['qed', 3, undefined],
    ]);
  });
});

test('a chain in which QED images would leave two formats unnamed is not supported', () => {
  const chain = (formats: readonly [string, string, string]): CellPlan => {
    const [plan] = smallMatrix({ sources: [chainSource(formats)], formats: ['qed'] });
    if (plan === undefined) throw new Error('an empty matrix');
    return plan;
  };
  expect(unsupportedByFormat(chain(['qcow2', 'qed', 'qed']))).toMatch(/needs two: qcow2, qed/);
  const plan = chain(['qcow2', 'qed', 'qcow2']);
  expect(unsupportedByFormat(plan)).toBeUndefined();
  expect(unnamedFormat(plan)).toBe('qcow2');
});
