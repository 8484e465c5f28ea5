/**
 * The examples of runs on many machines: their own commands run, each shard as its system would
 * start it, and the merged result is that of one machine.
 */

import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { beforeAll, expect, test, vi } from 'vitest';

import { readResult } from '../../src/result/store.ts';
import { amount } from '../amount.ts';
import { testDirectory } from '../test-directory.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const SHARDS = 8;
const FEW = '--workload stride,overwrite --requests 5 --cache writethrough,none';
const folder = testDirectory();
const programs = join(folder, 'bin');

/** An `npx` that runs this clone, over a few requests where cells are counted. */
beforeAll(() => {
  mkdirSync(programs);
  const npx = `#!/bin/sh
[ "$1" != --yes ] || shift
case $1 in qcow2-bench|qcow2-bench@*) shift ;; *) echo "npx $1: not this program" >&2; exit 1 ;; esac
case $1 in bench) shift; set -- bench ${FEW} "$@" ;; esac
exec '${process.execPath}' '${join(ROOT, 'src/cli/main.ts')}' "$@"
`;
  writeFileSync(join(programs, 'npx'), npx);
  chmodSync(join(programs, 'npx'), 0o755);
  bash(folder, 'npx qcow2-bench bench --samples 0 --out all.json');
});

function bash(directory: string, script: string, environment: Readonly<Record<string, string>> = {}): string {
  const done = spawnSync('bash', ['-euo', 'pipefail', '-c', script], {
    cwd: directory,
    encoding: 'utf8',
    env: { ...process.env, PATH: `${programs}:${process.env['PATH'] ?? ''}`, ...environment },
  });
  expect(done.status, `${script}: ${done.stderr}`).toBe(0);
  return done.stdout;
}

function example(name: string): string {
  return readFileSync(join(ROOT, 'examples/ci', name), 'utf8');
}

/** The commands of a file that contain `word`; folded YAML is one line. */
function commands(name: string, word: string): readonly string[] {
  const unfolded = example(name).replaceAll(
    />-\n((?: +.*\n)+?)(?=\s*(?:- |\w+:|$))/g,
    (_, lines: string) => `${lines.trim().replaceAll(/\s*\n\s*/g, ' ')}\n`,
  );
  return unfolded
    .split('\n')
    .filter((line) => !line.trim().startsWith('#') && line.includes(word))
    .map((line) => line.trim().replace(/^- (?:run: )?/, ''));
}

type Start = (shard: number) => readonly [script: string, environment: Readonly<Record<string, string>>];

const SYSTEMS: readonly (readonly [string, Start])[] = [
  [
    'github-shards.yml',
    (shard) => {
      const [count = ''] = commands('github-shards.yml', '--shard');
      return [count.replaceAll('${{ matrix.shard }}', String(shard)), {}];
    },
  ],
  [
    'gitlab-shards.yml',
    (shard) => {
      const [count = ''] = commands('gitlab-shards.yml', '--shard');
      return [count, { CI_NODE_INDEX: String(shard), CI_NODE_TOTAL: String(SHARDS) }];
    },
  ],
  [
    'kubernetes-shards.yml',
    (shard) => {
      const [count = ''] = commands('kubernetes-shards.yml', '--shard');
      return [count, { JOB_COMPLETION_INDEX: String(shard - 1) }];
    },
  ],
  [
    'slurm-shards.sh',
    (shard) => [
      `${join(ROOT, 'examples/ci/slurm-shards.sh')} bench --samples 0`,
      { SLURM_ARRAY_TASK_ID: String(shard), SLURM_ARRAY_TASK_MAX: String(SHARDS) },
    ],
  ],
];

// A start of the program for each shard: all systems in CI.
test.each(SYSTEMS.slice(-amount({ everyday: 1, full: SYSTEMS.length })))('%s', (name, start) => {
  const own = join(folder, name);
  mkdirSync(own);
  for (let shard = 1; shard <= SHARDS; shard++) bash(own, ...start(shard));
  const [merge = 'npx qcow2-bench merge shard-*.json --out result.json'] = commands(name, ' merge ');
  expect(example(name)).toContain('merge shard-*.json --out result.json');
  bash(own, merge);
  const [whole, merged] = [join(folder, 'all.json'), join(own, 'result.json')].map((path) =>
    readResult(path).cells.map(({ cell, counts, requests }) => ({ cell, counts, requests })),
  );
  expect(merged).toEqual(whole);
});

test('the history of docs/ci.md: two jobs at once add their lines to its branch', () => {
  const document = readFileSync(join(ROOT, 'docs/ci.md'), 'utf8');
  const [, block = ''] =
    /^```yaml\n((?:- run: .*\n)*- run: .*history add.*\n(?:- run: .*\n)*)```$/m.exec(document) ?? [];
  const steps = [...block.matchAll(/^- run: (.*)$/gm)].map(([, step = '']) => step);
  expect(steps).toHaveLength(5);

  const area = testDirectory();
  const identity = 'git config user.name me && git config user.email me@example.org';
  bash(
    area,
    `git init -q --bare -b main origin.git && git clone -q origin.git own 2>&1 && cd own && ${identity}
     echo one > file && git add -A && git commit -qm one && git push -q origin HEAD:main
     git switch -q --orphan history && : > history.jsonl && echo '*.jsonl merge=union' > .gitattributes
     git add -A && git commit -qm history && git push -q origin history`,
  );
  const jobs = ['a', 'b'].map((job) => {
    bash(
      area,
      `mkdir ${job} && git clone -q -b main origin.git ${job}/clone && cd ${job}/clone && ${identity}
      echo ${job} > file && git commit -qam ${job} && cp '${join(folder, 'all.json')}' result.json`,
    );
    const clone = join(area, job, 'clone');
    const commit = bash(clone, 'git rev-parse HEAD').trim();
    const environment = { GITHUB_SHA: commit, GITHUB_STEP_SUMMARY: join(area, `${job}.md`) };
    return { clone, commit, run: (step = '') => bash(clone, step, environment) };
  });
  // Both have fetched before one of them pushes.
  for (const { run } of jobs) for (const step of steps.slice(0, 4)) run(step);
  for (const { run } of jobs) run(steps[4]);

  bash(area, 'git clone -q -b history origin.git seen');
  const shown = bash(join(area, 'seen'), 'npx qcow2-bench history show --json');
  expect(JSON.parse(shown)).toMatchObject({ commits: 2, lines: 2, events: [] });
  for (const { commit } of jobs) {
    expect(readFileSync(join(area, 'seen/history.jsonl'), 'utf8')).toContain(`"commit":"${commit}"`);
  }
  expect(readFileSync(join(area, 'a.md'), 'utf8')).toMatch(/^## History of costs\n/);
});
