/** The programs in examples/ run as a reader would run them, and print what they promise. */

import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { createImageFile, hostImage, openStack, readBaseline, writeBaseline } from '../../src/index.ts';
import { owned } from '../owned-process.ts';
import { testDirectory } from '../test-directory.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

interface Finished {
  readonly code: number | string | null;
  readonly lines: readonly string[];
  readonly errors: string;
}

function run(example: string, ...args: readonly string[]): Promise<Finished> {
  return new Promise((resolve) => {
    const argv = [join(ROOT, 'examples', example), ...args];
    const child = execFile(process.execPath, argv, { encoding: 'utf8' }, (error, stdout, stderr) => {
      resolve({ code: error?.code ?? child.exitCode, lines: stdout.trimEnd().split('\n'), errors: stderr });
    });
    owned(child);
  });
}

function folder(): string {
  const path = testDirectory();
  return path;
}

test('count-a-trace: eager and lazy refcounts on a recording', async () => {
  expect(await run('count-a-trace.ts')).toEqual({
    code: 0,
    lines: [
      'sqlite-rollback · qcow2 eager · writethrough · 64KiB · depth 1: 1.112 syncs, 24150 bytes a write',
      'sqlite-rollback · qcow2 lazy · writethrough · 64KiB · depth 1: 1.004 syncs, 17037 bytes a write',
    ],
    errors: '',
  });
});

test('open-an-image: an image and its first data', async () => {
  const path = join(folder(), 'disk.qcow2');
  const { storage, name } = hostImage(path);
  await createImageFile({ storage, name, format: 'qcow2', virtualSize: 2 ** 30 });
  const stack = await openStack({ storage, imageName: name, format: 'qcow2', cache: 'writeback' });
  await stack.backend.write(0, new Uint8Array(4096).fill(0x5a), { fua: false });
  await stack.close();
  const before = readFileSync(path);
  expect(await run('open-an-image.ts', path)).toEqual({
    code: 0,
    lines: [
      'qcow2, 1GiB',
      'first data: guest offset 0, host offset 327680',
      `first bytes: ${'5a'.repeat(16)}`,
    ],
    errors: '',
  });
  expect(readFileSync(path).equals(before)).toBe(true);
});

test('open-an-image: an error has its code and exit code 1', async () => {
  const path = join(folder(), 'none.qcow2');
  expect(await run('open-an-image.ts', path)).toMatchObject({
    code: 1,
    errors: expect.stringMatching(/^file-missing: .*none\.qcow2/) as string,
  });
});

test('own-engine: beside qcow2 and QED', async () => {
  expect(await run('own-engine.ts')).toEqual({
    code: 0,
    lines: [
      'qcow2 eager: 2.00 syncs, 131203 bytes of metadata a write',
      'qcow2 lazy: 1.01 syncs, 65798 bytes of metadata a write',
      'qed: 1.00 syncs, 775 bytes of metadata a write',
      'journal: 1.00 syncs, 512 bytes of metadata a write',
    ],
    errors: '',
  });
});

test('ci-gate: passes on the committed baseline', async () => {
  expect(await run('ci-gate.ts')).toEqual({
    code: 0,
    lines: ['gate passed: cells 20 as in the baseline'],
    errors: '',
  });
});

test('ci-gate: fails where one sync more is counted than the baseline has', async () => {
  const path = join(folder(), 'baseline.json');
  const baseline = readBaseline(join(ROOT, 'results', 'baseline.json'));
  const cause = 'run.syncs.byCause.writethrough';
  const [lowered] = baseline.cells.filter(
    ({ cell, counts }) => cell.workload === 'stride' && (counts[cause] ?? 0) > 1,
  );
  if (lowered === undefined) throw new Error('no cell of the baseline syncs for writethrough');
  const counts = { ...lowered.counts, [cause]: (lowered.counts[cause] ?? 0) - 1 };
  writeFileSync(path, '');
  writeBaseline(path, {
    ...baseline,
    cells: baseline.cells.map((cell) => (cell === lowered ? { ...cell, counts } : cell)),
  });
  expect((await run('ci-gate.ts', path)).code).toBe(1);
});

test('every example is run here', () => {
  const tested = readFileSync(import.meta.filename, 'utf8');
  const names = readdirSync(join(ROOT, 'examples')).filter((name) => name.endsWith('.ts'));
  expect(names).toHaveLength(4);
  for (const name of names) expect(tested).toContain(`run('${name}'`);
});
