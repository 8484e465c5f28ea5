import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import type { ResultRecord } from '../../src/result/schema.ts';
import { readResult } from '../../src/result/store.ts';
import { reasonToSkip, runTool } from '../format/system-tools.ts';
import { testDirectory } from '../test-directory.ts';
import { HEADER } from '../workload/trace/trace-files.ts';
import { callCli } from './call-cli.ts';
import { errorLine, linesOf, runCli } from './cli-process.ts';

const COUNTS_ONLY = ['--samples', '0'];
const STRIDE = ['--workload', 'stride', '--format', 'qcow2', '--cache', 'writethrough'];

describe('run', () => {
  test('lists make a matrix, and its counts are those of QEMU', async () => {
    const { code, stdout } = await callCli(testDirectory(), 'run', ...STRIDE, ...COUNTS_ONLY, '--json');
    expect(code).toBe(0);
    const { cells } = JSON.parse(stdout) as ResultRecord;
    const syncs = cells.map(({ cell, counts }) => ({
      refcounts: cell.refcounts,
      syncs: (counts?.run.syncs.ops ?? 0) + (counts?.close.syncs.ops ?? 0),
      writes: (counts?.run.writes.ops ?? 0) + (counts?.close.writes.ops ?? 0),
    }));
    expect(syncs).toEqual([
      { refcounts: 'eager', syncs: 2003, writes: 3003 },
      { refcounts: 'lazy', syncs: 1006, writes: 2006 },
    ]);
  });

  test('every option of an image takes a list, and raw is beside each value', async () => {
    const axes = ['--extended-l2', 'off,on', '--l2-cache-size', '64KiB,1MiB', '--requests', '20'];
    const words = ['--workload', 'stride', '--format', 'raw,qcow2', '--refcounts', 'lazy', '--cache', 'none'];
    const { code, stdout } = await runCli(testDirectory(), 'run', ...words, ...axes, ...COUNTS_ONLY);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^5 cells/m);
    const setups = linesOf(stdout).filter((line) => line.startsWith('cache=none · '));
    expect(setups).toHaveLength(4);
    expect(linesOf(stdout).filter((line) => /^(?:stride)? +raw /.test(line))).toHaveLength(4);
  });

  test('an image that is made with backing files and a data file has only these beside it', async () => {
    const folder = testDirectory();
    const cell = ['--format', 'qcow2', '--refcounts', 'lazy', '--cache', 'none', '--requests', '20'];
    const image = ['--image', 'new', '--backing-depth', '2', '--data-file', 'plain'];
    const { code, stderr } = await runCli(folder, 'run', '--workload', 'stride', ...cell, ...image);
    expect(code, stderr).toBe(0);
    expect(readdirSync(folder).toSorted()).toEqual(['new', 'new.backing', 'new.backing.2', 'new.data']);
  });

  test('a file in the way of a backing file is never replaced, a data file with --overwrite', async () => {
    const folder = testDirectory();
    const cell = '--workload stride --format qcow2 --refcounts lazy --cache none --requests 20';
    const words = [...`run ${cell} --image new --backing-depth 2`.split(' '), '--data-file', 'plain'];
    const sizes = (): Readonly<Record<string, number>> =>
      Object.fromEntries(readdirSync(folder).map((name) => [name, statSync(join(folder, name)).size]));
    writeFileSync(join(folder, 'new.data'), 'old');
    const asked = await callCli(folder, ...words);
    expect(errorLine(asked)).toMatch(/new\.data: file exists; use --overwrite to replace it/);
    for (const name of ['new.backing', 'new.backing.2']) {
      writeFileSync(join(folder, name), 'old');
      const refused = await callCli(folder, ...words, '--overwrite');
      expect(refused.code).toBe(1);
      expect(errorLine(refused)).toMatch(
        new RegExp(`/${name}: file exists: remove or rename it, or choose another name for the image`),
      );
      expect(sizes()).toEqual({ 'new.data': 3, [name]: 3 });
      rmSync(join(folder, name));
    }
    const done = await callCli(folder, ...words, '--overwrite');
    expect(done.code, done.stderr).toBe(0);
    expect(Object.keys(sizes())).toEqual(['new', 'new.backing', 'new.backing.2', 'new.data']);
    expect(sizes()['new.data']).toBeGreaterThan(3);
  });

  test('counts of overlapped host operations are of real files, and called a sample', async () => {
    const overlap = ['--queue-depth', '1,32', '--overlap', '--requests', '60', ...COUNTS_ONLY];
    const folder = testDirectory();
    // A process of its own has a thread pool for the depth.
    const { code, stdout } = await runCli(folder, 'run', ...STRIDE, ...overlap, '--out', 'result.json');
    expect(code).toBe(0);
    expect(stdout).toContain('2 cells: counts are one sample');
    const { cells } = readResult(join(folder, 'result.json'));
    const told = cells.map(({ cell, countsDevice }) => [cell.queueDepth, cell.overlap, countsDevice]);
    expect(told.toSorted()).toEqual([
      [1, undefined, 'memory'],
      [1, undefined, 'memory'],
      [32, true, 'file'],
      [32, true, 'file'],
    ]);
    const alone = await callCli(folder, 'run', ...STRIDE, '--overlap');
    expect(alone.code).toBe(2);
    expect(errorLine(alone)).toContain('--queue-depth above 1');
  });

  test('times on real files leave nothing behind', async () => {
    const folder = testDirectory();
    const measure = ['--samples', '2', '--timed-requests', '10', '--dir', '.', '--out', 'result.json'];
    const { code, stdout } = await callCli(folder, 'run', ...STRIDE, ...measure);
    expect(code).toBe(0);
    expect(stdout).toContain('result.json');
    expect(readdirSync(folder)).toEqual(['result.json']);
    const { cells } = readResult(join(folder, 'result.json'));
    expect(cells.map(({ timings, timedRequests }) => ({ samples: timings.length, timedRequests }))).toEqual([
      { samples: 2, timedRequests: 10 },
      { samples: 2, timedRequests: 10 },
    ]);
  });

  test('--host-log holds every operation of the one cell, in order', async () => {
    const folder = testDirectory();
    const words = [...STRIDE, '--refcounts', 'lazy', ...COUNTS_ONLY, '--host-log', 'log.jsonl', '--json'];
    const { stdout } = await callCli(folder, 'run', ...words);
    const records = linesOf(readFileSync(join(folder, 'log.jsonl'), 'utf8')).map(
      (line) => JSON.parse(line) as { readonly phase: string; readonly op: string },
    );
    const counted = (JSON.parse(stdout) as ResultRecord).cells[0]?.counts;
    const logged = (phase: string, op: string): number =>
      records.filter((record) => record.phase === phase && record.op === op).length;
    expect(logged('run', 'write')).toBe(counted?.run.writes.ops);
    expect(logged('run', 'sync')).toBe(counted?.run.syncs.ops);
    expect(logged('close', 'sync')).toBe(counted?.close.syncs.ops);
    expect(records[0]?.phase).toBe('open');
    expect(records.at(-1)).toEqual({ phase: 'close', op: 'sync', file: 'image', cause: 'close' });
  });

  test.skipIf(reasonToSkip('qemu-img') !== undefined)(
    '--image keeps an image that QEMU finds sound',
    async () => {
      const folder = testDirectory();
      const words = [...STRIDE, '--refcounts', 'lazy', '--image', 'kept.qcow2'];
      expect((await callCli(folder, 'run', ...words)).code).toBe(0);
      const check: unknown = JSON.parse(
        runTool('qemu-img', ['check', '--output=json', 'kept.qcow2'], folder),
      );
      expect(check).toMatchObject({ 'check-errors': 0, 'allocated-clusters': 1000 });
    },
  );

  test('a cell that cannot be run is skipped with its reason; --strict makes that an error', async () => {
    const words = ['run', '--workload', 'stride', '--format', 'qcow2,qed', '--refcounts', 'lazy'];
    const measure = ['--cache', 'writeback', '--cluster-size', '512', ...COUNTS_ONLY];
    const loose = await callCli(testDirectory(), ...words, ...measure);
    expect(loose.code).toBe(0);
    expect(loose.stdout).toContain('skipped: qed does not support clusters of 512B');
    const strict = await callCli(testDirectory(), ...words, ...measure, '--strict');
    expect(strict.code).toBe(1);
    expect(strict.stderr).toMatch(/^qcow2-bench: error: skipped: 1 cell, /m);
  });

  test('without colours for a pipe', async () => {
    const { stdout, stderr } = await callCli(testDirectory(), 'run', ...STRIDE, ...COUNTS_ONLY);
    expect(`${stdout}${stderr}`.includes('\u001b')).toBe(false);
  });
});

describe('replay', () => {
  test('--limit serves the beginning of a recording', async () => {
    const words = ['--limit', '100', '--format', 'raw', '--cache', 'writeback', ...COUNTS_ONLY, '--json'];
    const { code, stdout } = await callCli(testDirectory(), 'replay', 'ext4-unpack', ...words);
    expect(code).toBe(0);
    const guest = (JSON.parse(stdout) as ResultRecord).cells[0]?.counts?.guest;
    const served = guest && guest.reads + guest.writes + guest.flushes + guest.discards + guest.writeZeroes;
    expect(served).toBe(100);
  });

  const CELL = ['--format', 'qcow2', '--refcounts', 'lazy', '--cache', 'writeback'];

  test('at recorded times on a modelled device: fidelity in the result, in words, and no warm-up', async () => {
    const folder = testDirectory();
    const words = [...CELL, '--device', 'model:nvme-plp', '--timing', 'scale=0.5', '--out', 'result.json'];
    const { code, stdout } = await callCli(folder, 'replay', 'ext4-unpack', ...words);
    expect(code).toBe(0);
    expect(stdout).toMatch(/ · depth 1 · nvme-plp +[\d.]+ % {2}/);
    expect(stdout).toContain('On time: issued at most 1 ms after it was due.');
    const result = JSON.parse(readFileSync(join(folder, 'result.json'), 'utf8')) as ResultRecord;
    const { cell, fidelity, timedRequests } = result.cells[0] ?? {};
    expect(cell?.timing).toBe('scale=0.5');
    expect(fidelity?.requests).toBe(timedRequests);
    expect((await callCli(folder, 'report', 'result.json', '--out', 'page.html')).code).toBe(0);
    expect(readFileSync(join(folder, 'page.html'), 'utf8')).toContain('Replay fidelity');
  });

  test('at recorded times on files lasts as long as the trace', async () => {
    const folder = testDirectory();
    const lines = Array.from(
      { length: 40 },
      (_, n) => `${String(n * 5_000_000)},write,${String(n * 16384)},4096,`,
    );
    writeFileSync(join(folder, 'slow.trace.csv'), `${HEADER}${lines.join('\n')}\n`);
    const words = ['--format', 'raw', '--cache', 'writeback', '--timing', 'recorded', '--json'];
    const { code, stdout, stderr } = await callCli(folder, 'replay', 'slow.trace.csv', ...words);
    expect(code).toBe(0);
    expect(stderr).toContain('takes 0.2 s');
    const [record] = (JSON.parse(stdout) as ResultRecord).cells;
    expect(record?.timings).toHaveLength(1);
    expect(record?.timings[0]?.elapsedNs).toBeGreaterThan(195_000_000);
    expect(record?.fidelity?.requests).toBe(40);
    expect(record?.fallbacks.join()).toContain('sync counts are not meaningful');
  });

  test('a flush policy and a remap are named in the cell and the summary, and flushes are counted', async () => {
    const folder = testDirectory();
    const lines = Array.from({ length: 64 }, (_, n) => `${String(n)},write,${String(n * 16384)},4096,`);
    writeFileSync(join(folder, 'bare.trace.csv'), `${HEADER}${lines.join('\n')}\n`);
    const adapt = ['--flush-policy', 'every=16', '--remap', 'wrap', '--size', '512KiB'];
    const words = [...CELL, ...COUNTS_ONLY, ...adapt, '--out', 'r.json'];
    const { code, stdout } = await callCli(folder, 'replay', 'bare.trace.csv', ...words);
    expect(code).toBe(0);
    expect(stdout).toMatch(/remap wrap: recorded on a device of 1MiB, replayed on\s+512KiB/);
    expect(stdout).toContain('flush policy every=16');
    expect(stdout).not.toContain('sync counts are not meaningful');
    const [record] = (JSON.parse(readFileSync(join(folder, 'r.json'), 'utf8')) as ResultRecord).cells;
    expect(record?.cell).toMatchObject({ flushPolicy: 'every=16', remap: 'wrap' });
    expect(record?.counts?.guest).toMatchObject({ writes: 64, flushes: 4, allocatingWrites: 8 });
  });

  test('--verify says what was compared', async () => {
    const { code, stdout } = await callCli(
      testDirectory(),
      'replay',
      'xfs-unpack',
      ...CELL,
      ...COUNTS_ONLY,
      '--verify',
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(/Verified: 139 reads, [\d,]+\s+sectors\s+as\s+written/);
  });

  test('--verify ends with 3 where a read answers with what another write wrote', async () => {
    const folder = testDirectory();
    const requests = '0,write,0,65536,\n1,write,65536,65536,\n2,read,0,65536,\n';
    writeFileSync(join(folder, 'two.trace.csv'), HEADER + requests);
    const words = ['replay', 'two.trace.csv', ...CELL, ...COUNTS_ONLY, '--verify', '--image', 'disk.qcow2'];
    expect((await callCli(folder, ...words)).code).toBe(0);
    mapSecondClusterOnFirst(join(folder, 'disk.qcow2'));
    const ended = await callCli(folder, ...words);
    expect(ended.code).toBe(3);
    const line = errorLine(ended);
    expect(line).toContain('request 2 (counted from 0), a read of 65536 bytes at guest offset 0x0');
    expect(line).toContain('expected what write 0 wrote, found what write 1 wrote at guest offset 0x10000');
  });

  test.each([
    [['--timing', 'soon'], 2, '--timing'],
    [['--flush-policy', 'every=0'], 2, '--flush-policy'],
    [['--remap', 'wrap'], 2, '--size'],
    [['--verify', '--device', 'null'], 2, '--verify'],
    [['--verify', '--payload', 'zero'], 2, '--payload'],
    [['--timing', 'recorded', '--engine', 'qemu'], 2, '--timing'],
    [['--remap', 'scale', '--size', '64KiB'], 1, '--size'],
  ])('%j is refused in one line that names the way out', async (words, code, named) => {
    const ended = await callCli(testDirectory(), 'replay', 'ext4-unpack', ...CELL, ...COUNTS_ONLY, ...words);
    expect(ended.code).toBe(code);
    expect(errorLine(ended)).toContain(named);
  });

  test('a workload file is not replayed, and the line says what to do', async () => {
    const ended = await callCli(testDirectory(), 'replay', 'stride');
    expect(errorLine(ended)).toContain('run --workload');
    expect(ended.code).toBe(1);
  });
});

/** A damage that no header reports: two guest clusters on one host cluster. */
function mapSecondClusterOnFirst(path: string): void {
  const image = readFileSync(path);
  const l1Table = Number(image.readBigUInt64BE(40));
  const l2Table = Number(image.readBigUInt64BE(l1Table) & 0x00ff_ffff_ffff_fe00n);
  image.copy(image, l2Table + 8, l2Table, l2Table + 8);
  writeFileSync(path, image);
}

describe('from a run to a verdict', () => {
  test('bench writes result, table and page; gate accepts, passes, and names what got worse with 3', async () => {
    const folder = testDirectory();
    const words = ['bench', '--workload', 'stride', '--format', 'qcow2', '--cache', 'writethrough'];
    const bench = await callCli(folder, ...words, ...COUNTS_ONLY);
    expect(bench.code).toBe(0);
    expect(bench.stdout).toContain('lazy refcounts issue 1.01 instead of 2.00 syncs');
    for (const path of ['results/latest.json', 'results/latest.csv', 'reports/index.html']) {
      expect(bench.stdout).toContain(path);
      expect(existsSync(join(folder, path))).toBe(true);
    }

    const gate = ['gate', 'results/latest.json'];
    expect(await callCli(folder, ...gate, '--accept')).toMatchObject({ code: 0 });
    expect(await callCli(folder, ...gate)).toMatchObject({ code: 0 });

    const baseline = join(folder, 'results/baseline.json');
    const better = readFileSync(baseline, 'utf8').replace(
      '"run.syncs.byCause.l2-after-refcount": 1000',
      '"run.syncs.byCause.l2-after-refcount": 999',
    );
    writeFileSync(baseline, better);
    const worse = await callCli(folder, ...gate);
    expect(worse.code).toBe(3);
    expect(worse.stdout).toMatch(/stride · qcow2 eager · writethrough/);
    expect(worse.stdout).toMatch(/l2-after-refcount/);
    const json = await callCli(folder, ...gate, '--json');
    expect(json.code).toBe(3);
    expect(JSON.parse(json.stdout)).toMatchObject({ passed: false });
  });

  test('report renders a result again, as a page or as Markdown', async () => {
    const folder = testDirectory();
    await callCli(folder, 'run', ...STRIDE, ...COUNTS_ONLY, '--out', 'result.json');
    const page = await callCli(folder, 'report', 'result.json', '--out', 'page.html');
    expect(page).toMatchObject({ code: 0, stdout: 'page.html\n' });
    expect(readFileSync(join(folder, 'page.html'), 'utf8')).toContain('<!doctype html>');
    const table = await callCli(folder, 'report', 'result.json', '--markdown');
    expect(table.code).toBe(0);
    expect(table.stdout).toMatch(/^\| Per guest write, cache=writethrough \|/);
    const twice = await callCli(folder, 'report', 'result.json', 'result.json', '--out', 'page.html');
    expect(twice.code).toBe(1);
    expect(errorLine(twice)).toContain('stride');
  });

  test('a result whose cells cannot be made here is rendered', async () => {
    const folder = testDirectory();
    const cells = ['--format', 'qcow2', '--cache', 'writethrough'];
    await callCli(folder, 'run', ...STRIDE, ...cells, ...COUNTS_ONLY, '--out', 'result.json');
    const path = join(folder, 'result.json');
    writeFileSync(
      path,
      readFileSync(path, 'utf8').replaceAll('"clusterSize":65536', '"clusterSize":4194304'),
    );
    const page = await callCli(folder, 'report', 'result.json', '--out', 'page.html');
    expect(page).toMatchObject({ code: 0, stdout: 'page.html\n' });
    expect(readFileSync(join(folder, 'page.html'), 'utf8')).toMatch(/^<!doctype html>/);
  });

  test('a result that is not whole is refused', async () => {
    const folder = testDirectory();
    writeFileSync(join(folder, 'result.json'), '{"schema":"qcow2-bench/result@1",');
    for (const command of ['report', 'gate']) {
      const ended = await callCli(folder, command, 'result.json');
      expect(ended.code).toBe(1);
      expect(errorLine(ended)).toContain('result.json');
    }
  });
});
