import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { describe, expect, test } from 'vitest';

import { readResult } from '../../src/result/store.ts';
import { makeFolder, runCli, startCli } from './cli-process.ts';

/** Longer than signals of one stroke of the keys are apart. */
const NEXT_STROKE_MS = 700;
const CELLS = [
  '--workload',
  'stride,subcluster-sequential',
  '--format',
  'qcow2',
  '--cache',
  'writeback,unsafe',
];
const MEASURE = ['--timed-requests', '20', '--out', 'result.json'];

describe('Ctrl-C', () => {
  test('keeps finished cells, says how to go on, exits with 130; --resume does the rest', async () => {
    const folder = makeFolder();
    const started = startCli(folder, 'run', ...CELLS, ...MEASURE, '--samples', '1000');
    await started.said('counting 3/');
    started.process.kill('SIGINT');
    const { code, stdout, stderr } = await started.ended;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    expect(stderr).toContain('qcow2-bench run');
    expect(stderr).toContain('--resume');
    const kept = readResult(join(folder, 'result.json'));
    expect(kept.cells.filter(({ counts }) => counts !== null).length).toBeGreaterThanOrEqual(3);
    expect(readdirSync(folder)).toEqual(['result.json']);

    const resumed = await runCli(folder, 'run', ...CELLS, ...MEASURE, '--samples', '1', '--resume');
    expect(resumed.code).toBe(0);
    expect(resumed.stderr).toContain('(kept)');
    const whole = readResult(join(folder, 'result.json'));
    expect(whole.cells.length).toBe(8);
    expect(whole.cells.every(({ counts, timings }) => counts !== null && timings.length >= 1)).toBe(true);
  });

  test('two signals of one stroke of the keys are one', async () => {
    const folder = makeFolder();
    const started = startCli(folder, 'run', ...CELLS, ...MEASURE, '--samples', '1000');
    await started.said('counting 3/');
    started.process.kill('SIGINT');
    started.process.kill('SIGINT');
    const { code, stderr } = await started.ended;
    expect(code).toBe(130);
    expect(stderr).toContain('--resume');
  });

  test('twice ends at once, and no image is left behind', async () => {
    const folder = makeFolder();
    // One batch of requests that takes longer than the test waits: the first signal alone does not end it.
    const long = [
      '--workload',
      'boot-from-backing',
      '--format',
      'qcow2',
      '--refcounts',
      'eager',
      '--cache',
      'writeback',
    ];
    const words = ['run', ...long, '--samples', '1000', '--dir', '.', '--timed-requests', '100000'];
    const started = startCli(folder, ...words);
    await started.said('timing, round 1/');
    started.process.kill('SIGINT');
    await sleep(NEXT_STROKE_MS);
    started.process.kill('SIGINT');
    const { code, stdout } = await started.ended;
    expect({ code, stdout }).toEqual({ code: 130, stdout: '' });
    expect(readdirSync(folder)).toEqual([]);
  });
});

test('a reader that goes away is no error', async () => {
  const folder = makeFolder();
  const started = startCli(folder, 'list');
  started.process.stdout?.destroy();
  expect(await started.ended).toMatchObject({ code: 0, stderr: '' });
});
