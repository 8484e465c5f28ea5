/** `gate --against` and `--bisect` in a repository of their own, with planted commits. */

import { spawnSync } from 'node:child_process';
import { appendFileSync, cpSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { beforeAll, describe, expect, test, vi } from 'vitest';

import { EXIT } from '../../src/cli/terminal/exit-code.ts';
import { TRIES_ALL } from '../amount.ts';
import { testDirectory } from '../test-directory.ts';
import { runCli, startCli } from './cli-process.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 120_000 });

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const RUN = 'run --workload stride --requests 20 --format qcow2 --cache writeback,none';
const HEADER = 'src/format/qcow2/metadata/header-store.ts';
const WRITE = "    await this.device.write(FIELD.incompatible, field, 'header');\n";

const hasGit = spawnSync('git', ['--version']).status === 0;
const folder = testDirectory();

function git(...words: readonly string[]): string {
  const identity = ['-c', 'user.name=test', '-c', 'user.email=test@example.org'];
  const done = spawnSync('git', [...identity, ...words], { cwd: folder, encoding: 'utf8' });
  expect(done.status, done.stderr).toBe(0);
  return done.stdout;
}

function commit(title: string, change?: () => void): void {
  appendFileSync(join(folder, 'note'), `${title}\n`);
  change?.();
  git('add', '--all');
  git('commit', '--quiet', '--message', title);
}

function replace(file: string, from: string, to: string): void {
  const path = join(folder, file);
  const text = readFileSync(path, 'utf8');
  expect(text.split(from)).toHaveLength(2);
  writeFileSync(
    path,
    text.replace(from, () => to),
  );
}

beforeAll(() => {
  if (!hasGit) return;
  for (const each of ['src', 'workloads', 'package.json', 'package-lock.json']) {
    cpSync(join(ROOT, each), join(folder, each), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, '.gitignore'), 'node_modules\n');
  git('init', '--quiet', '--initial-branch', 'main');
  commit('base');
  git('tag', 'good');
  commit('two');
  git('switch', '--quiet', '--create', 'feature');
  commit('three');
  commit('four');
  commit('five writes the header twice', () => replace(HEADER, WRITE, WRITE + WRITE));
  commit('six');
  commit('seven');
  commit('eight');
});

/** Folders that a run makes in the place for temporary files. */
function leftBehind(place: string): readonly string[] {
  return readdirSync(place).filter((name) => name.includes('-commits-'));
}

describe.skipIf(!hasGit)('commits', () => {
  test('bisect over 8 commits names the one that changed a count', async () => {
    const ended = await runCli(folder, 'gate', '--bisect', 'good', 'feature', '--run', RUN);
    expect(ended.code, ended.stderr).toBe(EXIT.verdict);
    expect(ended.stdout).toMatch(/first commit that counts otherwise: \w+ \(five writes the header twice\)/);
    expect(ended.stdout.match(/^WORSE/gm)).toHaveLength(1);
    expect(ended.stdout.replaceAll(/\s+/g, ' ')).toMatch(
      /WORSE \+1\.00 write per run, header \(.*in 2 of 4 cells; first: .*, request 0/,
    );
    // Both ends, and three of the six between.
    expect(ended.stderr.match(/^counting /gm)?.length).toBeLessThanOrEqual(5);
  });

  test('commits without a change, and in the wrong order', async () => {
    const none = await runCli(folder, 'gate', '--bisect', 'good', 'main', '--run', RUN);
    expect(none).toMatchObject({ code: EXIT.good });
    expect(none.stdout).toMatch(/^no count differs between \w+ \(base\) and \w+ \(two\), 1 commit later/);
    const wrong = await runCli(folder, 'gate', '--bisect', 'feature', 'main', '--run', RUN);
    expect(wrong.code).toBe(EXIT.error);
    expect(wrong.stderr).toContain('name the older one first');
  });

  test.runIf(TRIES_ALL)('a commit that cannot be run is passed over', async () => {
    git('switch', '--quiet', '--create', 'broken', 'good');
    commit('fine');
    commit('does not start', () => replace('src/cli/main.ts', 'import ', 'imprt '));
    commit('starts, and writes twice', () => {
      replace('src/cli/main.ts', 'imprt ', 'import ');
      replace(HEADER, WRITE, WRITE + WRITE);
    });
    git('switch', '--quiet', 'feature');
    const ended = await runCli(folder, 'gate', '--bisect', 'good', 'broken', '--run', RUN, '--json');
    expect(ended.code).toBe(EXIT.verdict);
    const { commits } = JSON.parse(ended.stdout) as { commits: readonly { title: string }[] };
    expect(commits.map(({ title }) => title.replace(/^\w+ /, ''))).toEqual([
      '(does not start)',
      '(starts, and writes twice)',
    ]);
  });

  test('against: the merge base and HEAD, counts judged, times advisory and never a silent pass', async () => {
    const words = ['gate', '--against', 'main', '--run', `${RUN} --device memory`, '--rounds', '1'];
    const ended = await runCli(folder, ...words, '--markdown', 'gate.md');
    expect(ended.code, ended.stderr).toBe(EXIT.verdict);
    expect(ended.stderr).toMatch(/counting \w+ \(two\)\ncounting \w+ \(eight\)\nround 1 of 1\n/);
    expect(ended.stdout).toMatch(/^WORSE .*\+1\.00 write per run, header/m);
    expect(ended.stdout).toMatch(
      /^INCONCLUSIVE .*too few rounds for an interval \(10 are needed\), control .*, 1 round$/m,
    );
    expect(ended.stdout).toContain('cells 2 worse, 2 as in the baseline; times 4 inconclusive');
    expect(readFileSync(join(folder, 'gate.md'), 'utf8')).toMatch(/\| inconclusive \|/);
  });

  test.runIf(TRIES_ALL)('against: commits that count alike pass', async () => {
    git('switch', '--quiet', '--detach', 'main');
    const ended = await runCli(folder, 'gate', '--against', 'good', '--run', RUN, '--rounds', '0');
    git('switch', '--quiet', 'feature');
    expect(ended, ended.stderr).toMatchObject({ code: EXIT.good });
    expect(ended.stdout).toContain('gate passed: cells 4 as in the baseline');
  });

  test('Ctrl-C leaves nothing behind: no folder, no process, no change of the repository', async () => {
    const before = [git('status', '--porcelain'), git('worktree', 'list'), leftBehind(tmpdir()).length];
    const words = ['gate', '--against', 'main', '--run', RUN, '--rounds', '50'];
    const started = startCli(folder, ...words);
    await started.said('round 1 of 50');
    started.process.kill('SIGINT');
    const { code, stderr } = await started.ended;
    expect(code).toBe(EXIT.interrupted);
    expect(stderr).not.toContain('error');
    expect([git('status', '--porcelain'), git('worktree', 'list'), leftBehind(tmpdir()).length]).toEqual(
      before,
    );
    const running = spawnSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).stdout;
    expect(running).not.toContain(`${String(started.process.pid)}-commits-`);
  });

  test.each([
    ['--against nowhere', EXIT.error, /git log: .*nowhere/],
    ['--against --all', EXIT.usage, /./],
    ['--against main result.json', EXIT.usage, /omit RESULT/],
    ['--against main --accept', EXIT.usage, /omit --accept/],
    ['--against main --junit x.xml', EXIT.usage, /--junit is of a result/],
    ['--against main --run info', EXIT.usage, /--run: invalid value 'info'/],
    ['--bisect good --rounds x', EXIT.usage, /--rounds: invalid value/],
    ['--bisect good --time fail', EXIT.usage, /omit --time/],
    ['result.json --rounds 3', EXIT.usage, /--rounds needs --against or --bisect/],
  ])('gate %s is refused', async (line, code, rule) => {
    const ended = await runCli(folder, 'gate', ...line.split(' '));
    expect(ended.code).toBe(code);
    expect(ended.stderr).toMatch(rule);
  });

  test('outside of a clone', async () => {
    const ended = await runCli(testDirectory(), 'gate', '--against', 'main');
    expect(ended.code).toBe(EXIT.error);
    expect(ended.stderr).toMatch(/not a git repository/);
  });
});
