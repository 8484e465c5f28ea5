/** Completion as bash does it: the script is loaded, and its function asked as Readline would. */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { expect, test, vi } from 'vitest';

import { COMMANDS } from '../../src/cli/command-list.ts';
import { completionsOf } from '../../src/cli/completions.ts';
import { runCli, makeFolder } from './cli-process.ts';

vi.setConfig({ testTimeout: 300_000 });

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));

test.for([
  [['rep'], ['replay', 'report']],
  [
    ['trace', ''],
    ['info', 'convert', 'slice'],
  ],
  [['help', 'trace', 's'], ['slice']],
  [['run', '--refcount-b'], ['--refcount-bits']],
  [['replay', '--lim'], ['--limit']],
  [
    ['run', '--cache', 'write'],
    ['writethrough', 'writeback'],
  ],
  [
    ['run', '--cache', 'none,write'],
    ['none,writethrough', 'none,writeback'],
  ],
  [['run', '--cache=writeback,writet'], ['--cache=writeback,writethrough']],
  [['run', '--workload', 'strid'], ['stride']],
  [['run', '--device', 'model:hdd'], ['model:hdd-7200']],
  [['run', '--out', ''], []],
  [['info', 'disk'], []],
  [['nonsense', '--'], []],
] as const)('after %j come %j', async ([words, candidates]) => {
  expect(await completionsOf(COMMANDS, words)).toEqual(candidates);
});

const hasBash = spawnSync('bash', ['--version']).status === 0;

test.runIf(hasBash).for([
  ['qcow2-bench run --cache writeb', ['writeback']],
  ['qcow2-bench run --cache=writeb', ['writeback']],
  ['qcow2-bench run --device model:hdd', ['hdd-7200']],
  ['qcow2-bench trace ', ['info', 'convert', 'slice']],
] as const)('bash completes "%s"', ([line, replies]) => {
  const script = [
    'qcow2-bench() { "$NODE" "$MAIN" "$@"; }',
    'source <(qcow2-bench completion bash)',
    // What Readline hands over: the line, split at COMP_WORDBREAKS.
    'COMP_LINE=$LINE COMP_POINT=${#LINE}',
    '_qcow2_bench',
    'printf "%s\\n" "${COMPREPLY[@]}"',
  ].join('\n');
  const { stdout, stderr } = spawnSync('bash', ['-c', script], {
    encoding: 'utf8',
    env: { ...process.env, NODE: process.execPath, MAIN, LINE: line, COMP_WORDBREAKS: ' \t\n"\'><=;|&(:' },
  });
  expect({ stderr, replies: stdout.trim().split('\n') }).toEqual({ stderr: '', replies });
});

test('the script for zsh is printed', async () => {
  const { code, stdout } = await runCli(makeFolder(), 'completion', 'zsh');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^#compdef qcow2-bench qb\n/);
});
