/** The figures in README.md and docs/results.md are those of the committed baseline. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { readBaseline } from '../../src/gate/baseline.ts';
import { bytesText, rateText } from '../../src/report/numbers.ts';
import { variantName } from '../../src/result/cell.ts';
import { deriveFigures } from '../../src/result/derive.ts';
import { resultSchema } from '../../src/result/schema.ts';
import { callCli } from '../cli/call-cli.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BASELINE = readBaseline(join(ROOT, 'results', 'baseline.json'));
const VARIANTS = ['raw', 'qcow2 eager', 'qcow2 lazy', 'QED'];

/** The first words of a row, and the workload that it is about. */
const WORKLOADS: Readonly<Record<string, string>> = {
  'stride: every 4 KiB write allocates': 'stride',
  'every 4 KiB write allocates': 'stride',
  'random allocation': 'random-allocation',
  '16 writes a cluster': 'subcluster-sequential',
  'database commit': 'database-commit',
  'boot from a backing file': 'boot-from-backing',
  'overwrite (the control)': 'overwrite',
  '_recorded:_ ext4, unpacking a package': 'ext4-unpack',
  '_recorded:_ btrfs, the same': 'btrfs-unpack',
  '_recorded:_ SQLite, rollback journal': 'sqlite-rollback',
  '_recorded:_ PostgreSQL, pgbench': 'postgres-pgbench',
  '_recorded:_ a Debian guest boots, installs': 'debian-boot',
};

/** Syncs and bytes written per guest write, from the first request to the end of close. */
function figures(workload: string, variant: string): string {
  const cell = BASELINE.cells.find(
    (each) =>
      each.cell.workload === workload &&
      each.cell.cache === 'writethrough' &&
      variantName(each.cell) === variant,
  );
  if (cell === undefined) throw new Error(`the baseline has no cell of ${workload} on ${variant}`);
  const sum = (pattern: RegExp): number =>
    Object.entries(cell.counts)
      .filter(([leaf]) => pattern.test(leaf))
      .reduce((total, [, count]) => total + count, 0);
  const { writes } = cell.guest;
  const syncs = sum(/^(run|close)\.syncs\.byCause\.[^.]+$/) / writes;
  const bytes = sum(/^(run|close)\.writes\.byPurpose\.[^.]+\.bytes$/) / writes;
  return `${rateText(syncs)} · ${bytesText(bytes)}`;
}

function rowsOf(document: string): readonly (readonly string[])[] {
  const text = readFileSync(join(ROOT, document), 'utf8');
  return text
    .split('\n')
    .filter((line) => line.startsWith('| ') && line.includes(' · ') && !line.startsWith('| per guest write'))
    .map((line) =>
      line
        .replaceAll('**', '')
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

/** The same of the B-tree, which is in no baseline. */
async function treeFigures(workload: string): Promise<string> {
  const words = ['--format', 'btree', '--commit', 'one-sync', '--cache', 'writethrough', '--samples', '0'];
  const ended = await callCli(ROOT, 'run', '--workload', workload, ...words, '--json');
  const counts = resultSchema.parse(JSON.parse(ended.stdout)).cells[0]?.counts;
  if (counts === undefined || counts === null) {
    throw new Error(`${workload} was not counted: ${ended.stderr}`);
  }
  const { syncsPerWrite, bytesPerWrite } = deriveFigures(counts);
  return `${rateText(syncsPerWrite)} · ${bytesText(bytesPerWrite)}`;
}

test.each([
  { document: 'README.md', rows: 3, hasTree: true },
  { document: 'docs/results.md', rows: 11, hasTree: false },
])('the table of $document', async ({ document, rows, hasTree }) => {
  const found = rowsOf(document);
  expect(found).toHaveLength(rows);
  for (const [title = '', ...texts] of found) {
    const workload = WORKLOADS[title] ?? '';
    expect(workload, `${document}: ${title}`).not.toBe('');
    const known = VARIANTS.map((name) => figures(workload, name));
    const expected = hasTree ? [...known, await treeFigures(workload)] : known;
    expect(texts, `${document}: ${title}`).toEqual(expected);
  }
});
