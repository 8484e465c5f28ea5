/** A file is linted once more when it changed, or a file that its types may come from. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { expect, test } from 'vitest';

import { lintKeys } from '../../scripts/lint.mjs';
import { testDirectory } from '../test-directory.ts';

const FILES = {
  'eslint.config.mjs': 'export default [];\n',
  'package-lock.json': '{}\n',
  'tsconfig.json': '{}\n',
  'src/page/tsconfig.json': '{}\n',
  'src/base.ts': 'export const base = 1;\n',
  'src/table.json': '{}\n',
  'src/middle.ts': "import {\n  base,\n} from './base.ts';\nexport { base };\n",
  'src/top.ts': "import type { base } from './middle.ts';\n",
  'src/late.ts': "const { base } = await import('./base.ts');\n",
  'src/circle.ts': "import './circle-too.ts';\nimport table from './table.json';\n",
  'src/circle-too.ts': "import './circle.ts';\n",
  'src/global.ts': 'export {};\ndeclare global {\n  const everywhere: number;\n}\n',
  'test/other.ts': 'export {};\n',
} as const;
const LINTED = Object.keys(FILES).filter((file) => !file.endsWith('.json'));

/** The files whose keys differ once `changed` does. */
function linted(changed: string, text = '// changed\n'): readonly string[] {
  const root = testDirectory();
  for (const [file, content] of Object.entries(FILES)) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), content);
  }
  const before = lintKeys(root);
  writeFileSync(join(root, changed), text);
  return [...lintKeys(root)].filter(([file, key]) => before.get(file) !== key).map(([file]) => file);
}

test.each([
  ['src/base.ts', ['src/base.ts', 'src/late.ts', 'src/middle.ts', 'src/top.ts']],
  ['src/middle.ts', ['src/middle.ts', 'src/top.ts']],
  ['src/top.ts', ['src/top.ts']],
  ['src/circle.ts', ['src/circle-too.ts', 'src/circle.ts']],
  ['src/table.json', ['src/circle-too.ts', 'src/circle.ts']],
  ['test/other.ts', ['test/other.ts']],
  ['src/new.ts', ['src/new.ts']],
])('after a change of %s: %s', (changed, expected) => {
  expect(linted(changed).toSorted()).toEqual(expected);
});

test.each([
  'eslint.config.mjs',
  'package-lock.json',
  'tsconfig.json',
  'src/page/tsconfig.json',
  'src/global.ts',
])('after a change of %s, all', (changed) => {
  expect(linted(changed).toSorted()).toEqual(LINTED.toSorted());
});

test('without a change, none', () => {
  expect(linted('test/other.ts', FILES['test/other.ts'])).toEqual([]);
});
