/**
 * `action.yml` as GitHub would run it: the steps' scripts in their order, with the inputs in the
 * environment, in a project of the user's.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test, vi } from 'vitest';

import { testDirectory } from '../test-directory.ts';

vi.setConfig({ testTimeout: 300_000 });

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ACTION = readFileSync(join(ROOT, 'action.yml'), 'utf8');

/** The scripts of the steps: block scalars under `run: |`. */
function stepScripts(): readonly string[] {
  const scripts: string[] = [];
  for (const [, body = ''] of ACTION.matchAll(/^ {6}run: \|\n((?: {8}.*\n?)+)/gm)) {
    scripts.push(body.replaceAll(/^ {8}/gm, ''));
  }
  return scripts;
}

/** Inputs with their defaults. */
function defaults(): ReadonlyMap<string, string> {
  const inputs = ACTION.slice(ACTION.indexOf('\ninputs:'), ACTION.indexOf('\nruns:'));
  const found = inputs.matchAll(/^ {2}([a-z]+):\n(?: {4}description: .*\n) {4}default: (.*)$/gm);
  return new Map([...found].map(([, name = '', value = '']) => [name, value.replace(/^''$/, '')]));
}

test('the steps count, and gate against the baseline with annotations and a summary', () => {
  const folder = testDirectory();
  mkdirSync(join(folder, 'results'));
  const inputs = new Map(defaults());
  expect([...inputs.keys()]).toEqual(['run', 'result', 'baseline', 'limits', 'markdown']);
  inputs.set('run', 'run --workload stride --requests 20 --format raw --cache none --samples 0');
  inputs.set('markdown', 'gate.md');
  const environment = {
    ...process.env,
    GITHUB_ACTIONS: 'true',
    GITHUB_ACTION_PATH: ROOT,
    GITHUB_STEP_SUMMARY: join(folder, 'summary.md'),
    ...Object.fromEntries([...inputs].map(([name, value]) => [`QB_${name.toUpperCase()}`, value])),
  };
  const [count = '', gate = '', ...others] = stepScripts();
  expect(others).toEqual([]);
  const run = (script: string) =>
    spawnSync('bash', ['--noprofile', '--norc', '-eo', 'pipefail', '-c', script], {
      cwd: folder,
      env: environment,
      encoding: 'utf8',
    });
  expect(run(count)).toMatchObject({ status: 0 });
  // Without a baseline it says how to make one.
  expect(run(gate)).toMatchObject({ status: 1 });
  const accept = '"$GITHUB_ACTION_PATH/bin/qb" gate "$QB_RESULT" --baseline "$QB_BASELINE" --accept';
  expect(run(accept)).toMatchObject({ status: 0 });
  const passed = run(gate);
  expect(passed).toMatchObject({ status: 0 });
  expect(passed.stdout).toContain('gate passed: cells 1 as in the baseline');
  expect(readFileSync(join(folder, 'summary.md'), 'utf8')).toContain('qcow2-bench gate passed');
  expect(readFileSync(join(folder, 'gate.md'), 'utf8')).toContain('qcow2-bench gate passed');
});
