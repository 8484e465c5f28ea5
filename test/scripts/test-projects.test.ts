/**
 * Each test file is in the project that its imports put it in: `npm run test:fast` needs no other
 * program.
 */

import { globSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

import { TEST_PROJECTS, testProjects } from '../../scripts/test-projects.mjs';
import { testDirectory } from '../test-directory.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The project of each test file among `files`, given as path → text. */
function projectsOf(files: Readonly<Record<string, string>>): Readonly<Record<string, readonly string[]>> {
  const root = testDirectory();
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return testProjects(root);
}

test('every test file is in one project', () => {
  const projects = testProjects(ROOT);
  const listed = TEST_PROJECTS.flatMap((name) => projects[name]).toSorted();
  const found = globSync('test/**/*.test.ts', { cwd: ROOT }).map((path) => path.split(sep).join('/'));
  expect(listed).toEqual(found.toSorted());
  for (const name of TEST_PROJECTS) expect(projects[name]).not.toEqual([]);
});

test.each([
  ['a guard', "import { reasonToSkip } from './format/system-tools.ts';\n"],
  ['QEMU as the sources find it', "import { findQemuTools } from '../src/peer/qemu-tools.ts';\n"],
  ['strace', "import {\n  traceProgram,\n} from '../src/peer/strace.ts';\n"],
  ['a browser', "import { chromium } from 'playwright-core';\n"],
  ['a program by name', "import { spawnSync } from 'node:child_process';\nspawnSync('nbdinfo', []);\n"],
  ['a file that asks', "import { twins } from './parity/twins.ts';\n"],
  ['a file that asks, loaded late', "const { twins } = await import('./parity/twins.ts');\n"],
])('%s puts a test in the project qemu', (_, text) => {
  const projects = projectsOf({
    'test/planted.test.ts': text,
    'test/parity/twins.ts': "import { runTool } from '../format/system-tools.ts';\n",
    'test/format/system-tools.ts':
      "import { spawnSync } from 'node:child_process';\nspawnSync('qemu-img', []);\n",
  });
  expect(projects['qemu']).toEqual(['test/planted.test.ts']);
});

test.each([
  ['names of peers as data', "import { parse } from '../src/x.ts';\nparse('fio');\n", 'unit'],
  ['a process of ours', "import { spawn } from 'node:child_process';\nspawn(process.execPath);\n", 'unit'],
])('%s: no peer is asked for', (_, text, project) => {
  expect(projectsOf({ 'test/planted.test.ts': text })[project]).toEqual(['test/planted.test.ts']);
});

test('the command line is slow, not unit', () => {
  const projects = projectsOf({ 'test/cli/planted.test.ts': "import { run } from './cli-process.ts';\n" });
  expect(projects['slow']).toEqual(['test/cli/planted.test.ts']);
});
