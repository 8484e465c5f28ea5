/**
 * The package as it is published: packed, extracted next to its dependencies, run from there. No
 * network: dependencies are links to those of the clone.
 */

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, globSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { beforeAll, expect, test, vi } from 'vitest';

import { TRIES_ALL } from '../amount.ts';
import { testDirectory } from '../test-directory.ts';

vi.setConfig({ testTimeout: 600_000, hookTimeout: 900_000 });

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
let folder: string;
/** Where the package is, as in a project that depends on it. */
let installed: string;

function run(command: string, words: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = spawnSync(command, words, { cwd, encoding: 'utf8' });
  expect(status, `${command} ${words.join(' ')}\n${stdout}\n${stderr}`).toBe(0);
  return stdout;
}

function doNotCheckTypes(file: string): void {
  const { compilerOptions, ...rest } = JSON.parse(readFileSync(file, 'utf8')) as {
    readonly compilerOptions: object;
  };
  writeFileSync(file, JSON.stringify({ ...rest, compilerOptions: { ...compilerOptions, noCheck: true } }));
}

beforeAll(() => {
  folder = testDirectory();
  // Packing builds `dist` and changes package.json for a moment: not in the clone.
  const clone = join(folder, 'clone');
  mkdirSync(clone);
  const parts = [
    'src',
    'docs',
    'workloads',
    'scripts',
    'examples',
    ...globSync('*.{json,md,yml,jsonc}', { cwd: ROOT }),
    'LICENSE',
  ];
  for (const part of parts) cpSync(join(ROOT, part), join(clone, part), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  // `npm test` has checked the types; the files are the same without.
  if (!TRIES_ALL) doNotCheckTypes(join(clone, 'tsconfig.build.json'));
  run('npm', ['pack', '--offline', '--pack-destination', folder], clone);
  const [archive = ''] = globSync('*.tgz', { cwd: folder });
  installed = join(folder, 'app', 'node_modules', 'qcow2-bench');
  mkdirSync(installed, { recursive: true });
  run('tar', ['xzf', join(folder, archive), '-C', installed, '--strip-components=1'], folder);
  const { dependencies } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as {
    readonly dependencies: Readonly<Record<string, string>>;
  };
  for (const name of Object.keys(dependencies)) {
    const link = join(folder, 'app', 'node_modules', name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(ROOT, 'node_modules', name), link);
  }
});

test('a project that depends on it counts, accepts a baseline and gates', () => {
  const app = join(folder, 'app');
  const main = join(installed, 'dist', 'cli', 'main.js');
  const call = (line: string): string => run(process.execPath, [main, ...line.split(' ')], app);
  call('run --workload stride --requests 50 --format qcow2 --cache writethrough --samples 0 --out r.json');
  expect(call('gate r.json --accept')).toContain('accepted 2 cells');
  expect(call('gate r.json --junit gate.xml')).toContain('gate passed: cells 2 as in the baseline');
  expect(existsSync(join(app, 'gate.xml'))).toBe(true);
  call('report r.json --out page.html');
  // The bundle is in the package: no bundler is installed next to it.
  expect(existsSync(join(app, 'node_modules', 'esbuild'))).toBe(false);
  const page = readFileSync(join(app, 'page.html'), 'utf8');
  expect(page).toContain('Copyright (c) 2015-present Jason Miller');
  expect(page).toContain('id="report-details"');
});

test('documents and schemas that it names are in it', () => {
  const sources = [
    ...globSync('dist/**/*.js', { cwd: installed }),
    ...globSync('*.md', { cwd: installed }),
    ...globSync('docs/*.md', { cwd: installed }),
  ];
  const named = new Set(
    sources
      .flatMap((source) => [
        ...readFileSync(join(installed, source), 'utf8').matchAll(/\bdocs\/[\w.-]+\.(?:md|json|svg)/g),
      ])
      .map(([path]) => path),
  );
  expect(named.has('docs/ci.md')).toBe(true);
  expect([...named].filter((path) => !existsSync(join(installed, path)))).toEqual([]);
  const { exports } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as {
    readonly exports: Readonly<Record<string, string | { readonly default: string }>>;
  };
  const targets = Object.values(exports).map((target) =>
    typeof target === 'string' ? target : target.default,
  );
  expect(targets.filter((target) => !existsSync(join(installed, target)))).toEqual([]);
});
