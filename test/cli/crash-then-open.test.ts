/** The price of opening after a crash is a result: counted, shown, and the same as QEMU's. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';
import type { CellRecord, Counts } from '../../src/result/schema.ts';
import { parseResult } from '../../src/result/store.ts';
import { reasonToSkip } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { callCli } from './call-cli.ts';

async function run(...words: readonly string[]): Promise<{ cells: readonly CellRecord[]; text: string }> {
  const folder = testDirectory();
  const fixed = ['--cache', 'writeback', '--samples', '0', '--out', 'result.json'];
  const { code, stdout, stderr } = await callCli(folder, 'run', ...words, ...fixed);
  expect(code, stderr).toBe(0);
  return { cells: parseResult(readFileSync(join(folder, 'result.json'), 'utf8')).cells, text: stdout };
}

function openOf(
  cells: readonly CellRecord[],
  workload: string,
  kind: Partial<CellRecord['cell']>,
): Counts['open'] {
  const found = cells.find(
    ({ cell }) =>
      cell.workload === `crash-then-open-${workload}` &&
      cell.format === kind.format &&
      cell.refcounts === (kind.refcounts ?? null),
  );
  if (found === undefined || found.counts === null) throw new Error(`no cell ${workload}`);
  return found.counts.open;
}

const LAZY = { format: 'qcow2', refcounts: 'lazy' } as const;
const EAGER = { format: 'qcow2', refcounts: 'eager' } as const;
const QED = { format: 'qed' } as const;

describe('run --workload crash-then-open', () => {
  test('shows a scan that grows with the disk and not with what was written', async () => {
    const { cells, text } = await run('--workload', 'crash-then-open', '--format', 'qcow2,qed');
    expect(text).toContain('Opening after a crash');
    for (const kind of [LAZY, QED]) {
      const [small, middle, large] = ['01gib', '08gib', '64gib'].map(
        (name) => openOf(cells, name, kind).reads.bytes,
      );
      expect(middle).toBeGreaterThan(2 * (small ?? Infinity));
      expect(large).toBeGreaterThan(6 * (middle ?? Infinity));
      expect(openOf(cells, '08gib-tenth-dirty', kind).reads.bytes).toBe(middle);
    }
    for (const name of ['01gib', '08gib', '64gib']) {
      // Lazy: new refcounts, the pointer to them, the mark; QED: the mark; eager: nothing was
      // wrong.
      expect(openOf(cells, name, LAZY).syncs.byCause.repair).toBeGreaterThan(0);
      expect(openOf(cells, name, LAZY).writes.byPurpose['refcount-block']?.ops).toBeGreaterThan(0);
      expect(openOf(cells, name, QED).writes.byPurpose).toEqual({ header: { ops: 1, bytes: 64 } });
      expect(openOf(cells, name, EAGER).writes.ops).toBe(0);
    }
  });

  const noQemu = reasonToSkip('qemu-io', 'strace');
  test.skipIf(noQemu !== undefined)('costs QEMU the same operations', async () => {
    const kinds = ['--format', 'qcow2,qed', '--engine', 'qemu'];
    const { cells } = await run('--workload', 'crash-then-open-01gib', ...kinds);
    expect(cells).toHaveLength(3);
    for (const { parity } of cells) expect(parity?.verdict).toBe('identical');
  });
});
