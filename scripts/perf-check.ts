/**
 * `node scripts/perf-check.ts [DIRECTORY]`: checks and repairs of large images beside `qemu-img
 * check`, in alternating pairs. It makes its images itself and removes them.
 *
 * The figures are medians of the pairs; the ratio is the median of the pairs' ratios, for the
 * machine may have other work. Processes are timed whole, ours with the start of Node.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { median } from 'simple-statistics';

import { copySparse } from '../src/device/file-copy.ts';

const MAIN = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));
const PAIRS = 5;
const CLUSTER = 65_536;

const directory = mkdtempSync(join(process.argv[2] ?? tmpdir(), 'qcow2-bench-perf-check-'));
try {
  const large = join(directory, 'large.qcow2');
  makeImage(large, '1T');
  report('check of 16.7 million clusters', await pairs((name) => check(name, large, [])));
  rmSync(large);
  const lost = join(directory, 'lost.qcow2');
  makeImage(lost, '256G');
  loseRefcounts(lost);
  const repair = async (name: Program): Promise<Run> => {
    const copy = join(directory, 'copy.qcow2');
    rmSync(copy, { force: true });
    await copySparse(lost, copy);
    return check(name, copy, name === 'ours' ? ['--repair', 'all'] : ['-r', 'all']);
  };
  report('rebuild of 4.2 million refcounts', await pairs(repair));
} finally {
  rmSync(directory, { recursive: true });
}

type Program = 'ours' | 'qemu-img';

/** Seconds. */
type Run = number;

function makeImage(path: string, size: string): void {
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', path, size]);
}

/** Empties all refcount blocks, as a crash with lazy refcounts does at worst. */
function loseRefcounts(path: string): void {
  const fd = openSync(path, 'r+');
  const table = Buffer.alloc(CLUSTER);
  readSync(fd, table, 0, CLUSTER, CLUSTER);
  for (let at = 0; at < CLUSTER; at += 8) {
    const block = Number(table.readBigUInt64BE(at));
    if (block !== 0) writeSync(fd, Buffer.alloc(CLUSTER), 0, CLUSTER, block);
  }
  closeSync(fd);
}

function check(program: Program, path: string, options: readonly string[]): Run {
  const command = program === 'ours' ? [process.execPath, MAIN] : ['qemu-img'];
  const words = [...command, 'check', ...options, path];
  const began = process.hrtime.bigint();
  const [name = '', ...args] = words;
  // qemu-img says a line a cluster: the time of that belongs to it, that of reading it does not.
  const { status } = spawnSync(name, args, { stdio: 'ignore' });
  if (status !== 0) throw new Error(`${words.join(' ')} ended with ${String(status)}`);
  return Number(process.hrtime.bigint() - began) / 1e9;
}

async function pairs(
  run: (program: Program) => Run | Promise<Run>,
): Promise<readonly (readonly [Run, Run])[]> {
  const runs: (readonly [Run, Run])[] = [];
  for (let pair = 0; pair < PAIRS; pair++) {
    const oursFirst = pair % 2 === 0;
    const first = await run(oursFirst ? 'ours' : 'qemu-img');
    const second = await run(oursFirst ? 'qemu-img' : 'ours');
    runs.push(oursFirst ? [first, second] : [second, first]);
  }
  return runs;
}

function report(what: string, runs: readonly (readonly [Run, Run])[]): void {
  const ours = median(runs.map(([each]) => each));
  const theirs = median(runs.map(([, each]) => each));
  const ratio = median(runs.map(([our, their]) => our / their));
  console.log(
    `${what}: ${ours.toFixed(2)} s, qemu-img ${theirs.toFixed(2)} s, ratio ${ratio.toFixed(2)} (${String(runs.length)} pairs)`,
  );
}
