/**
 * `action.yml` as GitHub would run it: the steps' scripts in their order, with the inputs in the
 * environment, in a project of the user's.
 */

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
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

/** Runs the steps one after another, as GitHub does; the first that fails ends it. */
function runAction(folder: string, given: Readonly<Record<string, string>>, steps = stepScripts()) {
  const inputs = new Map([...defaults(), ...Object.entries(given)]);
  const environment = {
    ...process.env,
    GITHUB_ACTIONS: 'true',
    GITHUB_ACTION_PATH: ROOT,
    GITHUB_STEP_SUMMARY: join(folder, 'summary.md'),
    ...Object.fromEntries([...inputs].map(([name, value]) => [`QB_${name.toUpperCase()}`, value])),
  };
  let ended = { status: 0 as number | null, stdout: '', stderr: '' };
  for (const script of steps) {
    ended = spawnSync('bash', ['--noprofile', '--norc', '-eo', 'pipefail', '-c', script], {
      cwd: folder,
      env: environment,
      encoding: 'utf8',
    });
    if (ended.status !== 0) break;
  }
  return ended;
}

const RUN = 'run --workload stride --requests 20 --format raw --cache none,writeback --samples 0';
const ACCEPT = '"$GITHUB_ACTION_PATH/bin/qb" gate "$QB_RESULT" --baseline "$QB_BASELINE" --accept';

function project(): string {
  const folder = testDirectory();
  mkdirSync(join(folder, 'results'));
  return folder;
}

test('each input of a step is one of the action, and the other way round', () => {
  const used = [...ACTION.matchAll(/QB_([A-Z]+): \$\{\{ inputs\.([a-z]+) \}\}/g)];
  expect(used.filter(([, variable, input]) => variable !== input?.toUpperCase())).toEqual([]);
  expect(new Set(used.map(([, , input]) => input))).toEqual(new Set(defaults().keys()));
});

test('the steps count, and gate against the baseline with annotations and a summary', () => {
  const folder = project();
  const [count = ''] = stepScripts();
  // Without a baseline it says how to make one.
  const first = runAction(folder, { run: RUN });
  expect(first).toMatchObject({ status: 1 });
  expect(first.stderr).toContain('--accept');
  expect(runAction(folder, { run: RUN }, [count, ACCEPT])).toMatchObject({ status: 0 });
  const passed = runAction(folder, { run: RUN, markdown: 'gate.md', options: '--quiet' });
  expect(passed).toMatchObject({ status: 0 });
  expect(passed.stdout).toContain('gate passed: cells 2 as in the baseline');
  expect(readFileSync(join(folder, 'summary.md'), 'utf8')).toContain('qcow2-bench gate passed');
  expect(readFileSync(join(folder, 'gate.md'), 'utf8')).toContain('qcow2-bench gate passed');
});

test('shards: each counts its part and gates nothing; the job that merges them gates', () => {
  const folder = project();
  const [count = ''] = stepScripts();
  expect(runAction(folder, { run: RUN }, [count, ACCEPT])).toMatchObject({ status: 0 });
  for (const shard of ['1', '2']) {
    const ended = runAction(folder, { run: RUN, shard: `${shard}/2`, result: `shard-${shard}.json` });
    expect(ended).toMatchObject({ status: 0, stdout: '' });
  }
  const merged = runAction(folder, { merge: 'shard-*.json' });
  expect(merged).toMatchObject({ status: 0 });
  expect(merged.stdout).toContain('gate passed: cells 2 as in the baseline');
  const missing = runAction(folder, { merge: 'shard-1.json' });
  expect(missing).toMatchObject({ status: 1 });
  expect(missing.stderr).toMatch(/shard/);
});

test('against: HEAD and its merge base, in a clone; a planted write fails', () => {
  const folder = testDirectory();
  const git = (...words: readonly string[]): void => {
    const identity = ['-c', 'user.name=test', '-c', 'user.email=test@example.org'];
    expect(spawnSync('git', [...identity, ...words], { cwd: folder }).status).toBe(0);
  };
  for (const each of ['src', 'workloads', 'bin', 'package.json', 'package-lock.json']) {
    cpSync(join(ROOT, each), join(folder, each), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, '.gitignore'), 'node_modules\nsummary.md\n');
  git('init', '--quiet', '--initial-branch', 'main');
  git('add', '--all');
  git('commit', '--quiet', '--message', 'base');
  git('switch', '--quiet', '--create', 'feature');
  const header = join(folder, 'src/format/qcow2/metadata/header-store.ts');
  const write = "    await this.device.write(FIELD.incompatible, field, 'header');\n";
  const source = readFileSync(header, 'utf8');
  expect(source.split(write)).toHaveLength(2);
  writeFileSync(header, source.replace(write, write + write));
  git('commit', '--quiet', '--all', '--message', 'writes twice');

  const run = 'run --workload stride --requests 20 --format qcow2 --refcounts lazy --cache none';
  const ended = runAction(folder, { against: 'main', run, options: '--rounds 0' });
  expect(ended.stderr).not.toContain('error');
  expect(ended).toMatchObject({ status: 3 });
  expect(ended.stdout).toMatch(/^WORSE .*\+1\.00 write per run, header/m);
  expect(ended.stdout).toMatch(/^::error /m);
  expect(readFileSync(join(folder, 'summary.md'), 'utf8')).toContain('qcow2-bench gate failed');
});
