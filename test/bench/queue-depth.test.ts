/**
 * What a queue depth does to syncs. The ranges are those of qemu-img 7.2's `bench` on the same
 * pattern: 1,000 writes of 4 KiB at stride 64 KiB, writethrough, some runs each (at depth 32: eager
 * 1,695 to 1,801, lazy 976; at depth 8: eager 1,871, lazy 995; at depth 1: 2,003 and 1,004 before
 * close). Its thread pool makes its counts vary.
 */

import { describe, expect, it } from 'vitest';

import { BuiltinEngine } from '../../src/bench/builtin-engine.ts';
import { smallMatrix, smallSource, STRIDE, WRITES } from './small-run.ts';

const source = smallSource('stride', {
  image: { size: '1GiB' },
  phases: [{ name: 'allocate', requests: 1000, ...WRITES, pattern: STRIDE }],
});

async function syncs(refcounts: 'eager' | 'lazy', queueDepth: number): Promise<number> {
  const axes = {
    sources: [source],
    formats: ['qcow2'],
    refcounts: [refcounts],
    queueDepths: [queueDepth],
  } as const;
  const [plan] = smallMatrix(axes);
  if (plan === undefined) throw new Error('no cell');
  const { counts } = await new BuiltinEngine().count(plan, {});
  return counts.run.syncs.ops;
}

describe('syncs of allocating writes in writethrough', () => {
  it('at depth 1 none is spared', async () => {
    expect(await syncs('eager', 1)).toBe(2003);
    expect(await syncs('lazy', 1)).toBe(1004);
  });

  it.each([8, 32])(
    'at depth %i few are, as a write is covered by a flush only if it was linked before',
    async (depth) => {
      const eager = await syncs('eager', depth);
      expect(eager).toBeGreaterThan(1695);
      expect(eager).toBeLessThan(2003);
      const lazy = await syncs('lazy', depth);
      expect(lazy).toBeGreaterThan(940);
      expect(lazy).toBeLessThan(1004);
    },
  );
});
