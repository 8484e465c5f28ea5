/** Completion as bash does it: the script is loaded, and its function asked as Readline would. */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { expect, test, vi } from 'vitest';

import { COMMANDS } from '../../src/cli/command-list.ts';
import { completionsOf } from '../../src/cli/grammar/completions.ts';
import { repeated } from '../../src/cli/options/option-kinds.ts';
import { choice, valuesOf } from '../../src/cli/options/option-values.ts';
import { testDirectory } from '../test-directory.ts';
import { runCli } from './cli-process.ts';

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
  [
    ['replay', '--timing', ''],
    ['asap', 'recorded', 'scale=4'],
  ],
  [['replay', '--flush-policy=e'], ['--flush-policy=every=32']],
  [['run', '--out', ''], []],
  [['info', 'disk'], []],
  [['info', '--', '--f'], []],
  [['run', '--', '--cache', 'write'], []],
  [['nonsense', '--'], []],
] as const)('after %j come %j', async ([words, candidates]) => {
  expect(await completionsOf(COMMANDS, words)).toEqual(candidates);
});

test('an option that may be given several times suggests what its reader names', () => {
  const option = repeated('Several', choice('several', ['one', 'two']));
  expect(valuesOf(option.coerce)).toEqual({ values: ['one', 'two'], isList: false });
  expect(option.coerce(['one', 'two'])).toEqual(['one', 'two']);
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

const hasZsh = spawnSync('zsh', ['--version']).status === 0;

test.runIf(hasZsh)('zsh completes options with values, and files where no candidate is', () => {
  const script = [
    'qcow2-bench() { "$NODE" "$MAIN" "$@"; }',
    // In place of the completion system, which needs a terminal: says what it was given.
    'compdef() { : }',
    'compadd() { print -rn -- "${(j: :)@} " }',
    '_files() { print -rn -- "files " }',
    'source <(qcow2-bench completion zsh)',
    'ask() { words=(qcow2-bench "$@"); CURRENT=$#words; _qcow2_bench }',
    'ask run --cache writeb; ask help che; ask info disk',
  ].join('\n');
  const { stdout, stderr } = spawnSync('zsh', ['-f', '-c', script], {
    encoding: 'utf8',
    env: { ...process.env, NODE: process.execPath, MAIN },
  });
  expect({ stdout, stderr }).toEqual({ stdout: '-Q -- writeback -Q -- check files ', stderr: '' });
});

test('the script for zsh is printed', async () => {
  const { code, stdout } = await runCli(testDirectory(), 'completion', 'zsh');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^#compdef qcow2-bench qb\n/);
});
